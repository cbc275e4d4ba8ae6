"""Source formats and bounded header readers, in pure Python: size, coding and pages that a source declares."""
