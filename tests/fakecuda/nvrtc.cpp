// NVRTC: sources are compiled for this machine, by nvrtc.py.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>
#include "fake.h"

struct Program { std::string source, log, code, ptx; std::vector<std::string> names, lowered; };

static std::string read(const std::string& path) { std::ifstream f(path, std::ios::binary); std::stringstream s; s << f.rdbuf(); return s.str(); }
static void put(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }
static std::string home() {                          // the folder of nvrtc.py
    Dl_info info;
    dladdr((void*)home, &info);
    std::string path = info.dli_fname;
    char* real = realpath(path.c_str(), nullptr);
    path = real; free(real);
    path = path.substr(0, path.rfind('/'));          // lib
    return path.substr(0, path.rfind('/'));
}
static std::string python(const std::string& args, int* status) {
    std::string command = "env -u LD_LIBRARY_PATH -u LD_PRELOAD " FAKECUDA_PYTHON " -S -E '" + home() + "/nvrtc.py' " + args + " 2>&1", out;
    FILE* p = popen(command.c_str(), "r");
    char part[4096];
    while (size_t n = fread(part, 1, sizeof part, p)) out.append(part, n);
    *status = pclose(p);
    return out;
}
API const char* nvrtcGetErrorString(int e) { return e == 6 ? "NVRTC_ERROR_COMPILATION" : e ? "NVRTC_ERROR" : "NVRTC_SUCCESS"; }
API int nvrtcVersion(int* major, int* minor) { *major = 13; *minor = 0; return 0; }
API int nvrtcGetNumSupportedArchs(int* n) { *n = 2; return 0; }
API int nvrtcGetSupportedArchs(int* a) { a[0] = 80; a[1] = 90; return 0; }
API int nvrtcCreateProgram(Program** out, const char* source, const char*, int, const char**, const char**) { *out = new Program; (*out)->source = source; return 0; }
API int nvrtcDestroyProgram(Program** p) { delete *p; *p = nullptr; return 0; }
API int nvrtcAddNameExpression(Program* p, const char* name) { p->names.push_back(name); return 0; }
API int nvrtcCompileProgram(Program* p, int count_, const char** options) {
    static std::string version;
    int status = 0;
    if (version.empty()) version = python("--version", &status);
    p->ptx = version;
    if (p->source.empty()) return 0;                 // CuPy asks which compiler this is
    char folder[] = "/tmp/fakenvrtc-XXXXXX";
    if (!mkdtemp(folder)) return 4;
    std::string at = folder, all, names;
    for (int i = 0; i < count_; i++) all += std::string(options[i]) + "\n";
    for (auto& n : p->names) names += n + "\n";
    put(at + "/source.cu", p->source); put(at + "/options", all); put(at + "/names", names);
    p->log = python(at, &status);
    p->log += read(at + "/log");
    p->code = read(at + "/kernels.so");
    std::stringstream lowered(read(at + "/lowered"));
    for (std::string line; std::getline(lowered, line);) p->lowered.push_back(line);
    for (const char* f : {"source.cu", "options", "names", "log", "kernels.so", "lowered", "kernel.cpp"}) unlink((at + "/" + f).c_str());
    rmdir(folder);
    { auto lock = locked(); count("compilations"); }
    return p->code.empty() ? 6 : 0;
}
API int nvrtcGetLoweredName(Program* p, const char* name, const char** out) {
    for (size_t i = 0; i < p->names.size(); i++) if (p->names[i] == name && i < p->lowered.size()) { *out = p->lowered[i].c_str(); return 0; }
    return 10;
}
#define GET(What, member) \
    API int nvrtcGet##What##Size(Program* p, size_t* size) { *size = p->member.size() + 1; return 0; } \
    API int nvrtcGet##What(Program* p, char* out) { memcpy(out, p->member.c_str(), p->member.size() + 1); return 0; }
GET(PTX, ptx) GET(CUBIN, code) GET(LTOIR, code) GET(ProgramLog, log)
