"""The op table: a row or more for each primitive and composite, by kind. `test_ops.py` tests them all."""

import op_table_elementwise
import op_table_inspection
import op_table_nn
import op_table_numbers
import op_table_parts
import op_table_products
from op_table_row import Row

ROWS: list[Row] = [
    *op_table_elementwise.ROWS,
    *op_table_parts.ROWS,
    *op_table_numbers.ROWS,
    *op_table_products.ROWS,
    *op_table_nn.ROWS,
    *op_table_inspection.ROWS,
]
