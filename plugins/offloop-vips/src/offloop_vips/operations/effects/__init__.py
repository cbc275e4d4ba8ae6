"""Operations that compute a pixel from its neighbours."""
