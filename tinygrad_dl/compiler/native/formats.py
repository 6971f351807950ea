"""`FORMATS`: what `vector_math` has to know of float32 and float64: their layout, and constants fitted for each."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A floating-point format, and what the functions need to know in it."""

    mantissa: int  # how many bits it has, without the implicit one
    bias: int  # of the exponent
    ln2: tuple[float, float]  # a number of the format, and what it lacks
    log10_2: tuple[float, float]
    exp_range: tuple[float, float]  # beyond, exp is zero and infinite
    exp: tuple[float, ...]  # (e^r - 1 - r) / r^2 = c0 + c1 r + ... for |r| <= ln2 / 2
    log: tuple[float, ...]  # (log(1 + f) - f) / f^2 = c0 + c1 f + ... for 1 + f in [sqrt(1/2), sqrt(2)]
    erfc: tuple[float, ...]  # -log(erfc(x)) / x = c0 + c1 x + ... for x <= erf_end
    erf_end: float  # from here on erf is 1
    half_pi: tuple[float, float, float]  # a number of the format, what it lacks, and what both lack
    sin: tuple[float, ...]  # (sin(r) - r) / r^3 = c0 + c1 r^2 + ... for |r| <= pi / 4
    cos: tuple[float, ...]  # (cos(r) - 1 + r^2 / 2) / r^4, likewise
    turns_end: float  # up to here an angle less its quarter turns is exact, but for the last bits

    @property
    def shifter(self) -> float:
        """Added to a small number, it leaves the nearest integer in the lowest bits."""
        return 1.5 * 2.0**self.mantissa

    @property
    def exponent_zero(self) -> float:
        """The number whose lowest bits are the biased exponent 0."""
        return 2.0**self.mantissa + self.bias

    @property
    def root_half(self) -> int:
        """The bits of sqrt(1/2), nearly."""
        return int((self.bias - 2 + math.sqrt(2)) * 2.0**self.mantissa)


FORMATS = {
    "float": Format(
        mantissa=23,
        bias=127,
        ln2=(0.6931471824645996, -1.904654290582768e-09),
        log10_2=(0.3010300099849701, -1.432098889689837e-08),
        exp_range=(-104.0, 89.0),
        exp=(0.49999997, 0.16666545, 0.0416675, 0.0083664, 0.0013864866),
        log=(-0.4999999, 0.3333395, -0.25001788, 0.19962056, -0.16570017, 0.14917818, -0.143097, 0.08736853),
        erfc=(
            *(1.1283792, 0.6366153, 0.10282762, -0.019376459, 0.0003145214, 0.0011376588, -0.0003166774),
            *(2.2370266e-05, 2.0643597e-06),
        ),
        erf_end=4.0,
        half_pi=(1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
        sin=(-0.16666664, 0.0083327005, -0.00019577722),
        cos=(0.041666664, -0.0013888255, 2.453775e-05),
        turns_end=2.0**18,
    ),
    "double": Format(
        mantissa=52,
        bias=1023,
        ln2=(0.6931471805599453, 2.3190468138462996e-17),
        log10_2=(0.3010299956639812, -2.8037281277851704e-18),
        exp_range=(-746.0, 710.0),
        exp=(
            *(0.5000000000000006, 0.1666666666666661, 0.041666666666573766, 0.00833333333337613),
            *(0.0013888888932325966, 0.0001984126974816228, 2.480150450319083e-05, 2.7557381397809315e-06),
            *(2.762630800495856e-07, 2.5062085546086347e-08),
        ),
        log=(
            *(-0.4999999999999997, 0.3333333333332809, -0.2500000000001281, 0.20000000001742627),
            *(-0.16666666666208477, 0.1428571408706366, -0.12499999833391157, 0.1111112202521743),
            *(-0.10000018065898693, 0.09090583017549803, -0.08332554360279183, 0.07697716967984972),
            *(-0.0716023644620535, 0.06621525723973226, -0.06041235138000811, 0.05974093580673967),
            *(-0.06787074430496233, 0.06323538908441324, -0.02828619490441524),
        ),
        erfc=(
            *(1.1283791670955126, 0.6366197723675898, 0.10277260330135794, -0.019128446993827788),
            *(-0.00020919484671877076, 0.0016962076247390657, -0.0005901322367284976, 2.590390449430685e-05),
            *(6.442183311858345e-05, -2.957803793276441e-05, 3.1728731792422747e-06, 3.1295642106131575e-06),
            *(-2.0343277296528094e-06, 5.687108953974182e-07, -1.0675712864513097e-08, -6.617702887277814e-08),
            *(3.4736462618055724e-08, -1.0814246627150769e-08, 2.3690944467543723e-09, -3.7743972315473537e-10),
            *(4.317800060442099e-11, -3.3772945338884045e-12, 1.6213221584516328e-13, -3.607116109645576e-15),
        ),
        erf_end=5.95,
        half_pi=(1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33),
        sin=(
            *(-0.16666666666666663, 0.008333333333330428, -0.00019841269835985584),
            *(2.7557315709635293e-06, -2.505105158684691e-08, 1.5912461499839467e-10),
        ),
        cos=(
            *(0.041666666666666664, -0.001388888888888707, 2.4801587298282115e-05),
            *(-2.755731702592346e-07, 2.0876096058995368e-09, -1.1379086634729478e-11),
        ),
        turns_end=2.0**40,
    ),
}
