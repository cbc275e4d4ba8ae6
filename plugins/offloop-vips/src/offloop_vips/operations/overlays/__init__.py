"""Operations that lay something over the picture."""
