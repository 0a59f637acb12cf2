// Included after a source: describe<&kernel>(traits) is what the stand-in has to know of a kernel of it.
#include <type_traits>
#include <utility>

namespace standin {
typedef bool (*Inside)(const void*, const void*);

template <class T> struct Parameter {
    static constexpr char kind = std::is_floating_point<T>::value ? 'f' : !std::is_integral<T>::value ? 's'
        : std::is_unsigned<T>::value ? 'u' : 'i';
    static size_t bytes(const T&) { return 0; }
    static const char* fault(const T&, Inside) { return nullptr; }
};
template <class T> struct Parameter<T*> {
    static constexpr char kind = 'p';
    static size_t bytes(T*) { return 0; }
    static const char* fault(T* p, Inside inside) {
        return !p || inside(p, (const char*)p + 1) ? nullptr : "a pointer that is none of the device's";
    }
};
#ifdef WITH_CARRAY
template <class T, int n, bool contiguous, bool narrow> struct Parameter<CArray<T, n, contiguous, narrow>> {
    typedef CArray<T, n, contiguous, narrow> Array;
    static constexpr char kind = 's';
    static size_t bytes(const Array& a) {            // an element that a broadcast repeats counts once
        size_t total = sizeof(T);
        for (int k = 0; k < n; k++) total *= a.strides()[k] ? a.shape()[k] : a.shape()[k] > 0;
        return total;
    }
    static const char* fault(const Array& a, Inside inside) {
        const char* low = *(char* const*)&a;
        const char* high = low + sizeof(T);
        if (a.size() == 0) return nullptr;
        for (int k = 0; k < n; k++) {
            if (a.shape()[k] == 0) return nullptr;
            (a.strides()[k] < 0 ? low : high) += a.strides()[k] * (a.shape()[k] - 1);
        }
        return inside(low, high) ? nullptr : "an array that does not lie in one allocation of the device";
    }
};
#endif

template <auto kernel> struct Described;
template <class... P, void (*kernel)(P...)> struct Described<kernel> {
    template <class X> using Bare = std::remove_cv_t<std::remove_reference_t<X>>;
    typedef std::index_sequence_for<P...> All;
    static constexpr unsigned sizes[] = {sizeof(Bare<P>)..., 0};
    static constexpr char kinds[] = {Parameter<Bare<P>>::kind..., 0};
    static_assert((0 + ... + sizeof(P)) <= 32764, "the parameters of a kernel take at most 32,764 bytes");

    template <size_t... I> static void call(void** args, std::index_sequence<I...>) { kernel(*(Bare<P>*)args[I]...); }
    static void run_thread(void** args) { call(args, All()); }
    template <size_t... I> static size_t sum(void** args, std::index_sequence<I...>) {
        return (size_t(0) + ... + Parameter<Bare<P>>::bytes(*(Bare<P>*)args[I]));
    }
    static size_t bytes(void** args) { return sum(args, All()); }
    template <size_t... I> static const char* first_fault(void** args, Inside inside, std::index_sequence<I...>) {
        const char* found = nullptr;
        (void)(... || (found = Parameter<Bare<P>>::fault(*(Bare<P>*)args[I], inside)));
        return found;
    }
    static const char* find_fault(void** args, Inside inside) { return first_fault(args, inside, All()); }
};
template <auto kernel> constexpr Kernel describe(int traits) {
    typedef Described<kernel> D;
    return {sizeof(D::kinds) - 1, D::sizes, D::kinds, D::run_thread, D::bytes, D::find_fault, traits};
}
}
