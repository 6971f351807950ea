from .creation import *
from .elementwise import *
from .index import *
from .product import *
from .reduction import *
from .shape import *
