"""Source formats and bounded header readers, in pure Python: what an encoded source declares, without a decoder."""
