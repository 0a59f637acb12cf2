// cuBLAS: products of matrices, by the OpenBLAS that NumPy has loaded. Matrices have to lie in device memory as far as
// they reach, and alpha and beta on the host.
#include <algorithm>
#include <complex>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <type_traits>
#include "device.h"

struct Handle {
    cudaStream_t stream = nullptr;
    int math = 0, pointers = 0;                      // pointers: 1 if alpha, beta and results lie on the device
};
enum Status { OK = 0, NOT_INITIALIZED = 1, WRONG = 7, FAILED = 13, NOT_SUPPORTED = 15 };
enum Type { FLOAT = 0, DOUBLE = 1, HALF = 2, COMPLEX = 4, COMPLEX_DOUBLE = 5 };        // cudaDataType
enum Compute {                                       // cublasComputeType
    IN_FLOAT = 68, IN_FLOAT_PEDANTIC = 69, IN_DOUBLE = 70, IN_DOUBLE_PEDANTIC = 71,
    FAST_HALF = 74, FAST_BFLOAT = 75, FAST_TF32 = 77
};
typedef std::complex<float> Complex;
typedef std::complex<double> ComplexDouble;
struct Half { unsigned short bits; };

// ------------------------------------------------------------------------------------------- one product

struct Product {                                     // C = alpha op(A) op(B) + beta C, column by column
    int ta, tb;                                      // 0: as it is, 1: transposed, 2: adjoint
    long m, n, k;
    ComplexDouble alpha, beta;
    const void *A, *B;
    void* C;
    long lda, ldb, ldc;
    long rows_of_A() const { return ta ? k : m; }
    long columns_of_A() const { return ta ? m : k; }
    long rows_of_B() const { return tb ? n : k; }
    long columns_of_B() const { return tb ? k : n; }
};

static void* openblas(const char* name) {
    static void* library = [] {
        std::ifstream maps("/proc/self/maps");
        for (std::string line; std::getline(maps, line);) {
            if (line.find("openblas") == std::string::npos || line.find('/') == std::string::npos) continue;
            void* found = dlopen(line.substr(line.find('/')).c_str(), RTLD_NOW);
            if (found && dlsym(found, "scipy_cblas_sgemm64_")) return found;
        }
        fprintf(stderr, "fakecuda: NumPy's OpenBLAS is not loaded\n");
        abort();
    }();
    return dlsym(library, name);
}
template <class T> static void multiply(const Product& p, const T* A, const T* B, T* C) {
    typedef void (*Gemm)(int, int, int, long, long, long, T, const T*, long, const T*, long, T, T*, long);
    static Gemm gemm = (Gemm)openblas(sizeof(T) == 4 ? "scipy_cblas_sgemm64_" : "scipy_cblas_dgemm64_");
    constexpr int COLUMNS = 102, PLAIN = 111, TRANSPOSED = 112;
    gemm(COLUMNS, p.ta ? TRANSPOSED : PLAIN, p.tb ? TRANSPOSED : PLAIN, p.m, p.n, p.k, p.alpha.real(), A, p.lda,
         B, p.ldb, p.beta.real(), C, p.ldc);
}
template <class T> static void multiply_complex(const Product& p, const T* A, const T* B, T* C) {
    auto element = [](const T* X, int t, long i, long j, long ld) {
        T x = t ? X[i * ld + j] : X[j * ld + i];
        return t == 2 ? std::conj(x) : x;
    };
    for (long j = 0; j < p.n; j++)
        for (long i = 0; i < p.m; i++) {
            T sum = 0, &c = C[j * p.ldc + i];
            for (long l = 0; l < p.k; l++) sum += element(A, p.ta, i, l, p.lda) * element(B, p.tb, l, j, p.ldb);
            c = T(p.alpha) * sum + (p.beta == 0.0 ? T(0) : T(p.beta) * c);
        }
}
static float rounded_to_tf32(float x) {
    unsigned u;
    memcpy(&u, &x, 4);
    u = (u + 0x1000) & ~0x1FFFu;
    memcpy(&x, &u, 4);
    return x;
}
static float from_half(Half h) {
    unsigned exponent = h.bits >> 10 & 31, fraction = h.bits & 1023;
    double x = fraction ? NAN : INFINITY;
    if (exponent < 31) x = std::ldexp(exponent ? 1024 + fraction : fraction, int(std::max(exponent, 1u)) - 25);
    return h.bits >> 15 ? -x : x;
}
static Half to_half(float x) {                       // to the nearest, ties to even
    unsigned sign = std::signbit(x) ? 0x8000 : 0;
    if (std::isnan(x)) return {(unsigned short)(sign | 0x7E00)};
    int exponent = std::max(x ? std::ilogb(x) : -14, -14);
    double scaled = std::isinf(x) ? 4096 : std::nearbyint(std::ldexp(std::fabs((double)x), 10 - exponent));
    if (std::isinf(x) || exponent > 15 || (exponent == 15 && scaled > 2047)) return {(unsigned short)(sign | 0x7C00)};
    return {(unsigned short)(sign | (unsigned(exponent + 14) * 1024 + unsigned(scaled)))};
}
template <class T, class F> static std::vector<float> converted(const void* X, long rows, long columns, long ld, F f) {
    std::vector<float> out(rows && columns ? (columns - 1) * ld + rows : 0);
    for (size_t i = 0; i < out.size(); i++) out[i] = f(((const T*)X)[i]);
    return out;
}
template <class T> static void compute(const Product& p, bool tf32) {
    if (!p.m || !p.n) return;
    if constexpr (std::is_same<T, Half>::value) {    // sums are float
        auto A = converted<Half>(p.A, p.rows_of_A(), p.columns_of_A(), p.lda, from_half);
        auto B = converted<Half>(p.B, p.rows_of_B(), p.columns_of_B(), p.ldb, from_half);
        auto C = converted<Half>(p.C, p.m, p.n, p.ldc, from_half);
        multiply(p, A.data(), B.data(), C.data());
        for (long j = 0; j < p.n; j++)
            for (long i = 0; i < p.m; i++) ((Half*)p.C)[j * p.ldc + i] = to_half(C[j * p.ldc + i]);
    } else if constexpr (std::is_same<T, Complex>::value || std::is_same<T, ComplexDouble>::value) {
        multiply_complex(p, (const T*)p.A, (const T*)p.B, (T*)p.C);
    } else if (tf32) {
        auto A = converted<float>(p.A, p.rows_of_A(), p.columns_of_A(), p.lda, rounded_to_tf32);
        auto B = converted<float>(p.B, p.rows_of_B(), p.columns_of_B(), p.ldb, rounded_to_tf32);
        multiply(p, A.data(), B.data(), (float*)p.C);
    } else multiply(p, (const T*)p.A, (const T*)p.B, (T*)p.C);
}

// ------------------------------------------------------------------------------------------- all kinds of calls

template <class T> static bool lies_inside(const void* p, long rows, long columns, long ld) {
    return !rows || !columns || inside(p, (const T*)p + (columns - 1) * ld + rows);
}
template <class T> static Status submit_products(Handle* h, std::vector<Product> products, bool tf32,
                                                 const char* name) {
    if (products.empty()) return OK;
    Operation operation;
    operation.kind = "gemm";
    operation.name = name;
    for (auto& p : products) {
        if (p.m < 0 || p.n < 0 || p.k < 0 || p.lda < std::max(1L, p.rows_of_A()) ||
            p.ldb < std::max(1L, p.rows_of_B()) || p.ldc < std::max(1L, p.m)) return WRONG;
        if (!lies_inside<T>(p.A, p.rows_of_A(), p.columns_of_A(), p.lda) || !lies_inside<T>(p.C, p.m, p.n, p.ldc) ||
            !lies_inside<T>(p.B, p.rows_of_B(), p.columns_of_B(), p.ldb)) {
            fault(std::string(name) + " gets a matrix that does not lie in one allocation of the device", 700);
            return FAILED;
        }
        operation.bytes += sizeof(T) * (double(p.m) * p.k + double(p.k) * p.n + double(p.m) * p.n);
        operation.flops += 2.0 * p.m * p.n * p.k;
    }
    auto& p = products[0];
    char more[200];
    snprintf(more, sizeof more, "\"m\": %ld, \"n\": %ld, \"k\": %ld, \"ta\": %d, \"tb\": %d, \"batch\": %zu, "
             "\"size\": %zu, \"tf32\": %d", p.m, p.n, p.k, p.ta, p.tb, products.size(), sizeof(T), tf32);
    operation.more = more;
    operation.run = [=] { for (auto& p : products) compute<T>(p, tf32); };
    return submit(h->stream, std::move(operation)) ? FAILED : OK;
}
struct Matrix { const void* data; int type; long ld; long long stride; };
static Status gemm(Handle* h, int ta, int tb, int m, int n, int k, const void* alpha, Matrix A, Matrix B,
                   const void* beta, Matrix C, int batch, int compute_type, const char* name) {
    auto lock = locked();
    if (!h) return NOT_INITIALIZED;
    int type = A.type;
    bool is_complex = type >= COMPLEX, is_double = type == DOUBLE || type == COMPLEX_DOUBLE;
    bool in_double = compute_type == IN_DOUBLE || compute_type == IN_DOUBLE_PEDANTIC;
    bool in_float = compute_type == IN_FLOAT || compute_type == IN_FLOAT_PEDANTIC || compute_type == FAST_HALF ||
                    compute_type == FAST_BFLOAT || compute_type == FAST_TF32;
    if (h->pointers || type != B.type || type != C.type || type == 3 || type > COMPLEX_DOUBLE || ta > 2 || tb > 2 ||
        !(is_double ? in_double : in_float)) return NOT_SUPPORTED;
    if (!alpha || !beta || inside(alpha, (char*)alpha + 1) || inside(beta, (char*)beta + 1)) return WRONG;
    auto number = [&](const void* p) {
        if (is_complex) return is_double ? *(ComplexDouble*)p : ComplexDouble(*(Complex*)p);
        return ComplexDouble(is_double ? *(double*)p : *(float*)p);
    };
    long size = type == HALF ? 2 : (is_double ? 8 : 4) << is_complex;
    auto at = [&](const Matrix& x, int i) { return (char*)x.data + i * x.stride * size; };
    std::vector<Product> products;
    for (int i = 0; i < batch; i++)
        products.push_back({ta, tb, m, n, k, number(alpha), number(beta), at(A, i), at(B, i), at(C, i),
                            A.ld, B.ld, C.ld});
    switch (type) {
        case FLOAT: return submit_products<float>(h, products, compute_type == FAST_TF32 || (h->math & 3) == 3, name);
        case DOUBLE: return submit_products<double>(h, products, false, name);
        case HALF: return submit_products<Half>(h, products, false, name);
        case COMPLEX: return submit_products<Complex>(h, products, false, name);
        default: return submit_products<ComplexDouble>(h, products, false, name);
    }
}

API int cublasCreate_v2(Handle** out) { auto lock = locked(); *out = new Handle; count("cublas handles"); return OK; }
API int cublasDestroy_v2(Handle* h) { delete h; return OK; }
API int cublasGetVersion_v2(Handle*, int* out) { *out = 130000; return OK; }
API int cublasSetStream_v2(Handle* h, cudaStream_t stream) { h->stream = stream; return OK; }
API int cublasGetStream_v2(Handle* h, cudaStream_t* out) { *out = h->stream; return OK; }
API int cublasSetWorkspace_v2(Handle*, void* p, size_t size) {
    auto lock = locked();
    return inside(p, (char*)p + size) && (size_t)p % 256 == 0 ? OK : WRONG;
}
API int cublasSetMathMode(Handle* h, int mode) { h->math = mode; return OK; }
API int cublasGetMathMode(Handle* h, int* out) { *out = h->math; return OK; }
API int cublasSetPointerMode_v2(Handle* h, int mode) { h->pointers = mode; return OK; }
API int cublasGetPointerMode_v2(Handle* h, int* out) { *out = h->pointers; return OK; }
API int cublasGemmEx(Handle* h, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int A_type,
                     int lda, const void* B, int B_type, int ldb, const void* beta, void* C, int C_type, int ldc,
                     int compute, int) {
    return gemm(h, ta, tb, m, n, k, alpha, {A, A_type, lda, 0}, {B, B_type, ldb, 0}, beta, {C, C_type, ldc, 0}, 1,
                compute, "GemmEx");
}
API int cublasGemmStridedBatchedEx(Handle* h, int ta, int tb, int m, int n, int k, const void* alpha,
                                   const void* A, int A_type, int lda, long long A_stride,
                                   const void* B, int B_type, int ldb, long long B_stride, const void* beta,
                                   void* C, int C_type, int ldc, long long C_stride, int batch, int compute, int) {
    return gemm(h, ta, tb, m, n, k, alpha, {A, A_type, lda, A_stride}, {B, B_type, ldb, B_stride}, beta,
                {C, C_type, ldc, C_stride}, batch, compute, "GemmStridedBatchedEx");
}
template <class T> static Status gemm_of_pointers(Handle* h, const Product& one, const T* const* A, const T* const* B,
                                                  T* const* C, int batch, const char* name) {
    auto lock = locked();
    if (h->pointers || !inside(A, A + batch) || !inside(B, B + batch) || !inside(C, C + batch)) return WRONG;
    finish(stream_of(h->stream));                    // the pointers lie on the device
    std::vector<Product> products(batch, one);
    for (int i = 0; i < batch; i++) {
        products[i].A = A[i];
        products[i].B = B[i];
        products[i].C = C[i];
    }
    return submit_products<T>(h, products, false, name);
}
template <class T> static Status dot(Handle* h, int n, const T* x, int x_step, const T* y, int y_step, T* out) {
    auto lock = locked();
    bool on_device = inside(out, out + 1);
    if (on_device != (h->pointers == 1)) return WRONG;
    if (n > 0 && !inside(x, x + (long)(n - 1) * x_step + 1)) return WRONG;
    if (n > 0 && !inside(y, y + (long)(n - 1) * y_step + 1)) return WRONG;
    if (!on_device && refused()) return FAILED;
    Operation operation;
    operation.kind = "dot";
    operation.bytes = 2.0 * n * sizeof(T);
    operation.flops = 2.0 * n;
    operation.run = [=] {
        T sum = 0;
        for (long i = 0; i < n; i++) sum += x[i * x_step] * y[i * y_step];
        *out = sum;
    };
    if (submit(h->stream, std::move(operation))) return FAILED;
    if (on_device) return OK;
    count("waits: dot");
    return finish(stream_of(h->stream)) ? FAILED : OK;
}
#define FUNCTIONS_OF(L, T, type, compute, dot_name) \
    API int cublas##L##gemm_v2(Handle* h, int ta, int tb, int m, int n, int k, const T* alpha, const T* A, int lda, \
                               const T* B, int ldb, const T* beta, T* C, int ldc) { \
        return gemm(h, ta, tb, m, n, k, alpha, {A, type, lda, 0}, {B, type, ldb, 0}, beta, {C, type, ldc, 0}, 1, \
                    compute, #L "gemm"); \
    } \
    API int cublas##L##gemmStridedBatched(Handle* h, int ta, int tb, int m, int n, int k, const T* alpha, \
                                          const T* A, int lda, long long A_stride, const T* B, int ldb, \
                                          long long B_stride, const T* beta, T* C, int ldc, long long C_stride, \
                                          int batch) { \
        return gemm(h, ta, tb, m, n, k, alpha, {A, type, lda, A_stride}, {B, type, ldb, B_stride}, beta, \
                    {C, type, ldc, C_stride}, batch, compute, #L "gemmStridedBatched"); \
    } \
    API int cublas##L##gemmBatched(Handle* h, int ta, int tb, int m, int n, int k, const T* alpha, const T* const* A, \
                                   int lda, const T* const* B, int ldb, const T* beta, T* const* C, int ldc, \
                                   int batch) { \
        Product one = {ta, tb, m, n, k, *alpha, *beta, nullptr, nullptr, nullptr, lda, ldb, ldc}; \
        return gemm_of_pointers<T>(h, one, A, B, C, batch, #L "gemmBatched"); \
    } \
    API int cublas##L##gemv_v2(Handle* h, int t, int m, int n, const T* alpha, const T* A, int lda, const T* x, \
                               int x_step, const T* beta, T* y, int y_step) { \
        int rows = t ? n : m, inner = t ? m : n; \
        if (x_step != 1 || y_step != 1) return NOT_SUPPORTED; \
        return gemm(h, t, 0, rows, 1, inner, alpha, {A, type, lda, 0}, {x, type, inner, 0}, beta, \
                    {y, type, rows, 0}, 1, compute, #L "gemv"); \
    } \
    API int dot_name(Handle* h, int n, const T* x, int x_step, const T* y, int y_step, T* out) { \
        return dot<T>(h, n, x, x_step, y, y_step, out); \
    }
FUNCTIONS_OF(S, float, FLOAT, IN_FLOAT, cublasSdot_v2)
FUNCTIONS_OF(D, double, DOUBLE, IN_DOUBLE, cublasDdot_v2)
FUNCTIONS_OF(C, Complex, COMPLEX, IN_FLOAT, cublasCdotu_v2)
FUNCTIONS_OF(Z, ComplexDouble, COMPLEX_DOUBLE, IN_DOUBLE, cublasZdotu_v2)
