"""What a user may ask of a solve besides the solution: where it steps, what it saves, and how far it has come."""

from pysciml.control.complex_states import is_complex as is_complex
from pysciml.control.complex_states import solve_as_pairs as solve_as_pairs
from pysciml.control.control import Control as Control
from pysciml.control.control import settled as settled
from pysciml.control.options import check_taken as check_taken
from pysciml.control.parts import split_parts as split_parts
from pysciml.control.saving import every_step as every_step
from pysciml.control.seeds import path_seeds as path_seeds
from pysciml.control.seeds import seed_of as seed_of
from pysciml.control.times import SaveAt as SaveAt
from pysciml.control.times import checked_times as checked_times
from pysciml.control.times import in_order as in_order
from pysciml.control.times import moved_inside as moved_inside
from pysciml.control.times import save_times as save_times
from pysciml.control.tolerances import check_tolerances as check_tolerances
from pysciml.control.tolerances import tolerances as tolerances
from pysciml.control.under_transforms import check_transforms as check_transforms
