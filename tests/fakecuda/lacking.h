#pragma once
void count(const char* what, double by);
#define LACKING(name, error) \
    extern "C" __attribute__((visibility("default"))) int name() { count("calls of what is lacking: " #name, 1); return error; }
