"""Optuna is optional: what needs it asks here first."""


def needed() -> None:
    """Raises ImportError, with what to install, where there is no Optuna."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ImportError('tune needs optuna: pip install "tinygrad-dl[tune]"') from error
