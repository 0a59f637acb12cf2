// What CuPy takes from Thrust: stable sorts of the lines of an array, NaN last. Linked to CuPy's own thrust.pyx.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <type_traits>
#include <vector>

extern "C" void fakecuda_submit(void* stream, const char* name, double bytes, void (*run)(void*), void* data);

struct Sort {
    int type;                                        // CuPy's number of it
    size_t* order;
    void* data;
    std::vector<ptrdiff_t> shape;
    size_t keys, n;                                  // of a lexsort
};

template <class T> static bool before(T a, T b) {
    if constexpr (std::is_floating_point<T>::value) return a < b || (std::isnan(b) && !std::isnan(a));
    else return a < b;
}

template <class T> static void sort_lines(Sort* sort) {
    size_t n = sort->shape.back(), total = 1;
    for (auto s : sort->shape) total *= s;
    std::vector<size_t> order(n);
    for (size_t start = 0; n && start < total; start += n) {
        T* line = (T*)sort->data + start;
        std::vector<T> old(line, line + n);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return before(old[a], old[b]); });
        for (size_t i = 0; i < n; i++) line[i] = old[order[i]];
        if (sort->order) std::copy(order.begin(), order.end(), sort->order + start);
    }
}
template <class T> static void sort_by_keys(Sort* sort) {        // the last row of keys counts most
    std::iota(sort->order, sort->order + sort->n, 0);
    for (size_t k = 0; k < sort->keys; k++) {
        T* row = (T*)sort->data + k * sort->n;
        auto earlier = [&](size_t a, size_t b) { return before(row[a], row[b]); };
        std::stable_sort(sort->order, sort->order + sort->n, earlier);
    }
}
template <class T> static void run_as(Sort* sort) { sort->keys ? sort_by_keys<T>(sort) : sort_lines<T>(sort); }
static void run(void* data) {
    Sort* sort = (Sort*)data;
    switch (sort->type) {
        case 0: run_as<int8_t>(sort); break;
        case 1: run_as<uint8_t>(sort); break;
        case 2: run_as<int16_t>(sort); break;
        case 3: run_as<uint16_t>(sort); break;
        case 4: run_as<int32_t>(sort); break;
        case 5: run_as<uint32_t>(sort); break;
        case 6: run_as<int64_t>(sort); break;
        case 7: run_as<uint64_t>(sort); break;
        case 9: run_as<float>(sort); break;
        case 10: run_as<double>(sort); break;
        case 13: run_as<bool>(sort); break;
    }
}
static void submit(intptr_t stream, const char* name, const Sort& sort) {
    if (sort.type == 8 || sort.type == 11 || sort.type == 12 || sort.type > 13)
        throw std::runtime_error("the stand-in does not sort half or complex numbers");
    fakecuda_submit((void*)stream, name, 0, run, new Sort(sort));       // it stays: a graph may run it again
}
void thrust_sort(int type, void* data, size_t*, const std::vector<ptrdiff_t>& shape, intptr_t stream, void*) {
    submit(stream, "thrust sort", {type, nullptr, data, shape, 0, 0});
}
void thrust_argsort(int type, size_t* order, void* data, void*, const std::vector<ptrdiff_t>& shape, intptr_t stream,
                    void*) {
    submit(stream, "thrust argsort", {type, order, data, shape, 0, 0});
}
void thrust_lexsort(int type, size_t* order, void* keys, size_t k, size_t n, intptr_t stream, void*) {
    submit(stream, "thrust lexsort", {type, order, keys, {}, k, n});
}
