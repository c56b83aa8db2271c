"""Stage 2 from Python: the functions behind the commands of `heads`, called with plain values.

Paths may be strings, lists may be any sequence, and settings have the names and defaults of `heads train --help`, with
underscores. A value that cannot be meant raises OptionError, a file that is not what it should be DataError. Nothing
here prints.
"""
