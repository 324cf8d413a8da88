/* The version of edgekit, written here and nowhere else: CMake, setup.py and the libraries read it. */
#ifndef EDGEKIT_VERSION_H
#define EDGEKIT_VERSION_H

#define EDGEKIT_VERSION "0.1.0"

#endif
