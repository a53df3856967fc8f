"""What is measured, one file each: time, memory, energy, communication.

Each file stands alone: it needs nothing of Assay but its errors, and importing this package imports none of
them.
"""

from __future__ import annotations
