"""What pytest must not import here: the frameworks are installed for ``make bench`` alone."""

from pathlib import Path

collect_ignore = [
    str(path)
    for path in Path(__file__).parent.glob("peers/with_*.py")
    if "graphopt" not in path.name
]
