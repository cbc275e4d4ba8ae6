"""The pool as a dependency of FastAPI's path operations. The only module here that needs FastAPI."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends

from ..pool import Pool
from .lifespan import pool_of

__all__ = ["PoolDep"]

PoolDep: TypeAlias = Annotated[Pool, Depends(pool_of)]
"""Annotation of a parameter that gets the pool: `async def thumbnail(pool: PoolDep) -> Response`."""
