#include "target.h"

#include "isa/scalar.cpp"
