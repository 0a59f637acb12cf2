// cuBLAS: the products of matrices, by the OpenBLAS that NumPy has brought along. Pointers are checked: matrices must lie in
// device memory as far as they reach, and numbers on the host.
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <cuda_fp16.h>
#include "fake.h"

struct Blas { cudaStream_t stream = nullptr; int math = 0, pointers = 0; void* workspace = nullptr; size_t size = 0; };
enum { OK = 0, NOT_INITIALISED = 1, WRONG = 7, FAILED = 13, NOT_SUPPORTED = 15 };

static void* openblas(const char* name) {
    static void* library = [] {
        std::ifstream maps("/proc/self/maps");
        for (std::string line; std::getline(maps, line);) {
            size_t at = line.find('/');
            if (at != std::string::npos && line.find("openblas") != std::string::npos)
                if (void* found = dlopen(line.substr(at).c_str(), RTLD_NOW)) if (dlsym(found, "scipy_cblas_sgemm64_")) return found;
        }
        fprintf(stderr, "fakecuda: NumPy's OpenBLAS is not loaded\n");
        return (void*)nullptr;
    }();
    return library ? dlsym(library, name) : nullptr;
}
typedef std::complex<double> Wide;
typedef std::complex<float> Narrow;
template <class T> constexpr bool complex_type = std::is_same<T, Wide>::value || std::is_same<T, Narrow>::value;
template <class T> static void product_of_complex(int ta, int tb, long m, long n, long k, T alpha, const T* A, long lda, const T* B, long ldb, T beta, T* out, long ldc) {
    auto at = [](const T* X, int t, long i, long j, long ld) { T x = t ? X[i * ld + j] : X[j * ld + i]; return t == 2 ? std::conj(x) : x; };
    for (long j = 0; j < n; j++) for (long i = 0; i < m; i++) {
        T sum = 0;
        for (long l = 0; l < k; l++) sum += at(A, ta, i, l, lda) * at(B, tb, l, j, ldb);
        T& c = out[j * ldc + i];
        c = alpha * sum + (beta == T(0) ? T(0) : beta * c);
    }
}
template <class T> static void gemm(bool ta, bool tb, long m, long n, long k, T alpha, const T* A, long lda, const T* B, long ldb, T beta, T* C, long ldc) {
    typedef void (*F)(int, int, int, long, long, long, T, const T*, long, const T*, long, T, T*, long);
    static F f = (F)openblas(sizeof(T) == 4 ? "scipy_cblas_sgemm64_" : "scipy_cblas_dgemm64_");
    f(102, ta ? 112 : 111, tb ? 112 : 111, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc);
}
static float tf32(float x) { unsigned u; memcpy(&u, &x, 4); u = (u + 0x1000) & ~0x1FFFu; memcpy(&x, &u, 4); return x; }
template <class T> static bool fits(const T* p, long rows, long columns, long ld) { return !rows || !columns || inside(p, p + (columns - 1) * ld + rows); }

struct Product { int ta, tb; long m, n, k; std::complex<double> alpha, beta; const void *A, *B; void* C; long lda, ldb, ldc; };
template <class T> static int submit_product(Blas* h, std::vector<Product> all, bool rounded, const char* name) {
    if (h->pointers) return NOT_SUPPORTED;
    Node node;
    node.kind = "gemm"; node.name = name;
    for (auto& p : all) {
        long ra = p.ta ? p.k : p.m, ca = p.ta ? p.m : p.k, rb = p.tb ? p.n : p.k, cb = p.tb ? p.k : p.n;
        if (p.m < 0 || p.n < 0 || p.k < 0 || p.lda < std::max(1L, ra) || p.ldb < std::max(1L, rb) || p.ldc < std::max(1L, p.m)) return WRONG;
        if (!fits((const T*)p.A, ra, ca, p.lda) || !fits((const T*)p.B, rb, cb, p.ldb) || !fits((T*)p.C, p.m, p.n, p.ldc)) {
            fault(std::string(name) + " is handed a matrix that does not lie in device memory", 700);
            return FAILED;
        }
        node.bytes += sizeof(T) * (double(p.m) * p.k + double(p.k) * p.n + double(p.m) * p.n);
        node.flops += 2.0 * p.m * p.n * p.k;
    }
    auto& p = all[0];
    char more[200];
    snprintf(more, sizeof more, "\"m\": %ld, \"n\": %ld, \"k\": %ld, \"ta\": %d, \"tb\": %d, \"batch\": %zu, \"size\": %zu, \"tf32\": %d", p.m, p.n, p.k, p.ta, p.tb, all.size(), sizeof(T), rounded);
    node.more = more;
    node.run = [=] {
        for (auto& p : all) {
            if (!p.m || !p.n) continue;
            if (sizeof(T) == 2) {                    // half, summed in float
                auto wide = [](const void* p, long count) { std::vector<float> out(count); for (long i = 0; i < count; i++) out[i] = __half2float(((const __half*)p)[i]); return out; };
                long ca = p.ta ? p.m : p.k, cb = p.tb ? p.k : p.n;
                auto A = wide(p.A, p.k ? (ca - 1) * p.lda + (p.ta ? p.k : p.m) : 0), B = wide(p.B, p.k ? (cb - 1) * p.ldb + (p.tb ? p.n : p.k) : 0), C = wide(p.C, (p.n - 1) * p.ldc + p.m);
                gemm<float>(p.ta, p.tb, p.m, p.n, p.k, p.alpha.real(), A.data(), p.lda, B.data(), p.ldb, p.beta.real(), C.data(), p.ldc);
                for (long j = 0; j < p.n; j++) for (long i = 0; i < p.m; i++) ((__half*)p.C)[j * p.ldc + i] = __float2half_rn(C[j * p.ldc + i]);
            } else if (rounded) {
                long ca = p.ta ? p.m : p.k, cb = p.tb ? p.k : p.n;
                std::vector<float> A((float*)p.A, (float*)p.A + (p.k ? (ca - 1) * p.lda + (p.ta ? p.k : p.m) : 0)), B((float*)p.B, (float*)p.B + (p.k ? (cb - 1) * p.ldb + (p.tb ? p.n : p.k) : 0));
                for (auto& x : A) x = tf32(x);
                for (auto& x : B) x = tf32(x);
                gemm<float>(p.ta, p.tb, p.m, p.n, p.k, p.alpha.real(), A.data(), p.lda, B.data(), p.ldb, p.beta.real(), (float*)p.C, p.ldc);
            } else if constexpr (complex_type<T>) product_of_complex<T>(p.ta, p.tb, p.m, p.n, p.k, T(p.alpha), (const T*)p.A, p.lda, (const T*)p.B, p.ldb, T(p.beta), (T*)p.C, p.ldc);
            else if constexpr (sizeof(T) > 2) gemm<T>(p.ta, p.tb, p.m, p.n, p.k, p.alpha.real(), (const T*)p.A, p.lda, (const T*)p.B, p.ldb, p.beta.real(), (T*)p.C, p.ldc);
        }
    };
    return submit(h->stream, std::move(node)) ? FAILED : OK;
}
static int any(Blas* h, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int At, int lda, long long sA, const void* B, int Bt, int ldb,
               long long sB, const void* beta, void* C, int Ct, int ldc, long long sC, int batch, int compute, const char* name) {
    auto lock = locked();
    if (!h) return NOT_INITIALISED;
    if (At != Bt || At != Ct || (At != 0 && At != 1 && At != 2 && At != 4 && At != 5) || ta > 2 || tb > 2) return NOT_SUPPORTED;     // float, double, half, complex
    bool wide = At % 4 == 1, both = At >= 4;
    if (wide ? compute != 70 && compute != 71 : compute != 68 && compute != 69 && compute != 77 && compute != 74 && compute != 75) return NOT_SUPPORTED;
    if (!alpha || !beta || inside(alpha, (char*)alpha + 1) || inside(beta, (char*)beta + 1)) return WRONG;
    auto number = [&](const void* p) { return both ? wide ? *(Wide*)p : Wide(*(Narrow*)p) : Wide(wide ? *(double*)p : *(float*)p); };
    Wide a = number(alpha), b = number(beta);
    std::vector<Product> all;
    for (int i = 0; i < batch; i++) {
        long w = (wide ? 8 : At == 2 ? 2 : 4) << both;
        all.push_back({ta, tb, m, n, k, a, b, (const char*)A + i * sA * w, (const char*)B + i * sB * w, (char*)C + i * sC * w, lda, ldb, ldc});
    }
    if (all.empty()) return OK;
    if (At == 2) return submit_product<__half>(h, all, false, name);
    if (both) return wide ? submit_product<Wide>(h, all, false, name) : submit_product<Narrow>(h, all, false, name);
    return wide ? submit_product<double>(h, all, false, name) : submit_product<float>(h, all, compute == 77 || (h->math & 3) == 3, name);
}

API int cublasCreate_v2(Blas** out) { *out = new Blas; auto lock = locked(); count("cublas handles"); return OK; }
API int cublasDestroy_v2(Blas* h) { delete h; return OK; }
API int cublasGetVersion_v2(Blas*, int* out) { *out = 130000; return OK; }
API int cublasSetStream_v2(Blas* h, cudaStream_t s) { h->stream = s; h->workspace = nullptr; h->size = 0; return OK; }
API int cublasGetStream_v2(Blas* h, cudaStream_t* s) { *s = h->stream; return OK; }
API int cublasSetWorkspace_v2(Blas* h, void* p, size_t size) {
    auto lock = locked();
    if (!inside(p, (char*)p + size) || (size_t)p % 256) return WRONG;
    h->workspace = p; h->size = size;
    return OK;
}
API int cublasSetMathMode(Blas* h, int mode) { h->math = mode; return OK; }
API int cublasGetMathMode(Blas* h, int* mode) { *mode = h->math; return OK; }
API int cublasSetPointerMode_v2(Blas* h, int mode) { h->pointers = mode; return OK; }
API int cublasGetPointerMode_v2(Blas* h, int* mode) { *mode = h->pointers; return OK; }
API int cublasGemmEx(Blas* h, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int At, int lda, const void* B, int Bt, int ldb,
                     const void* beta, void* C, int Ct, int ldc, int compute, int) {
    return any(h, ta, tb, m, n, k, alpha, A, At, lda, 0, B, Bt, ldb, 0, beta, C, Ct, ldc, 0, 1, compute, "GemmEx"); }
API int cublasGemmStridedBatchedEx(Blas* h, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int At, int lda, long long sA, const void* B,
                                   int Bt, int ldb, long long sB, const void* beta, void* C, int Ct, int ldc, long long sC, int batch, int compute, int) {
    return any(h, ta, tb, m, n, k, alpha, A, At, lda, sA, B, Bt, ldb, sB, beta, C, Ct, ldc, sC, batch, compute, "GemmStridedBatchedEx"); }
#define SIMPLE(L, T, code, compute, U) \
    API int cublas##L##gemm_v2(Blas* h, int ta, int tb, int m, int n, int k, const T* alpha, const T* A, int lda, const T* B, int ldb, const T* beta, T* C, int ldc) { \
        return any(h, ta, tb, m, n, k, alpha, A, code, lda, 0, B, code, ldb, 0, beta, C, code, ldc, 0, 1, compute, #L "gemm"); } \
    API int cublas##L##gemmStridedBatched(Blas* h, int ta, int tb, int m, int n, int k, const T* alpha, const T* A, int lda, long long sA, const T* B, int ldb, \
                                          long long sB, const T* beta, T* C, int ldc, long long sC, int batch) { \
        return any(h, ta, tb, m, n, k, alpha, A, code, lda, sA, B, code, ldb, sB, beta, C, code, ldc, sC, batch, compute, #L "gemmStridedBatched"); } \
    API int cublas##L##gemmBatched(Blas* h, int ta, int tb, int m, int n, int k, const T* alpha, const T* const* A, int lda, const T* const* B, int ldb, const T* beta, \
                                   T* const* C, int ldc, int batch) { \
        auto lock = locked(); \
        if (h->pointers || !inside(A, A + batch) || !inside(B, B + batch) || !inside(C, C + batch)) return WRONG; \
        wait_for(stream_of(h->stream));              /* the pointers lie on the device */ \
        std::vector<Product> all; \
        for (int i = 0; i < batch; i++) all.push_back({ta, tb, m, n, k, Wide(*alpha), Wide(*beta), A[i], B[i], C[i], lda, ldb, ldc}); \
        return all.empty() ? OK : submit_product<T>(h, all, false, #L "gemmBatched"); } \
    API int cublas##L##gemv_v2(Blas* h, int t, int m, int n, const T* alpha, const T* A, int lda, const T* x, int ix, const T* beta, T* y, int iy) { \
        if (ix != 1 || iy != 1) return NOT_SUPPORTED; \
        int rows = t ? n : m, inner = t ? m : n; \
        return any(h, t, 0, rows, 1, inner, alpha, A, code, lda, 0, x, code, inner, 0, beta, y, code, rows, 0, 1, compute, #L "gemv"); } \
    API int cublas##L##dot##U##_v2(Blas* h, int n, const T* x, int ix, const T* y, int iy, T* out) { \
        auto lock = locked(); \
        Node node; \
        node.kind = "dot"; node.bytes = 2.0 * n * sizeof(T); node.flops = 2.0 * n; \
        bool device = inside(out, out + 1); \
        if (device != (h->pointers == 1) || !inside(x, x + (long)(n - 1) * ix + 1) || !inside(y, y + (long)(n - 1) * iy + 1)) return WRONG; \
        node.run = [=] { T sum = 0; for (long i = 0; i < n; i++) sum += x[i * ix] * y[i * iy]; *out = sum; }; \
        if (!device && refused()) return FAILED; \
        if (submit(h->stream, std::move(node))) return FAILED; \
        if (!device) { count("waits: dot"); wait_for(stream_of(h->stream)); } \
        return OK; }
SIMPLE(S, float, 0, 68, ) SIMPLE(D, double, 1, 70, ) SIMPLE(C, Narrow, 4, 68, u) SIMPLE(Z, Wide, 5, 70, u)
