"""eifer: a face under electrodes, live, as parameters of a 3D head model, and its muscles, in both
directions.
"""

__version__ = "0.1.0"
