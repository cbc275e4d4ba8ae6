"""Operations that change each pixel by its colour, or by the distribution of colours."""
