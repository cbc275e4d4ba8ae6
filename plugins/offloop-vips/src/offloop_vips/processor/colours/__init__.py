"""Colours of a source: conversion to sRGB, Display P3 or grey."""
