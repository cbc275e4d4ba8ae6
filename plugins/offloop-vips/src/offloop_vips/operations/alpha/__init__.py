"""Operations on alpha and on single bands."""
