"""Operations that change size, position or orientation of a picture."""
