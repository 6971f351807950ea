"""What is wrong with a recorded graph, and where: each part reads the graph and stands alone."""

from .detection import detect_nan as detect_nan
from .doctor import doctor as doctor
from .graph_check import check_graph as check_graph
from .why import why as why
