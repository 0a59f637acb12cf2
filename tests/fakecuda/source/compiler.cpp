// NVRTC: compile.py compiles a source for this machine, into a shared library.
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <sstream>
#include <unistd.h>
#include "device.h"

struct Program {
    std::string source, log, code, version;
    std::vector<std::string> names, lowered;         // name expressions, and what they are called in the library
};
enum { OK = 0, INVALID_PROGRAM = 4, COMPILATION = 6, NO_SUCH_NAME = 10 };

static std::string read(const std::string& path) {
    std::stringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
}
static void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

static std::string compile_py(const std::string& argument) {         // returns what it prints
    static const std::string folder = [] {           // of this library, without the links that lead to it
        Dl_info info;
        dladdr((void*)compile_py, &info);
        char* path = realpath(info.dli_fname, nullptr);
        std::string name = path;
        free(path);
        return name.substr(0, name.rfind('/'));
    }();
    std::string out;
    FILE* pipe = popen(("env -u LD_LIBRARY_PATH -u LD_PRELOAD '" PYTHON "' -S -E '" + folder + "/../compile.py' '" +
                        argument + "' 2>&1").c_str(), "r");
    char part[4096];
    while (size_t n = fread(part, 1, sizeof part, pipe)) out.append(part, n);
    pclose(pipe);
    return out;
}

API const char* nvrtcGetErrorString(int error) {
    return error == COMPILATION ? "NVRTC_ERROR_COMPILATION" : error ? "NVRTC_ERROR" : "NVRTC_SUCCESS";
}
API int nvrtcVersion(int* major, int* minor) { *major = 13; *minor = 0; return OK; }
API int nvrtcGetNumSupportedArchs(int* n) { *n = 2; return OK; }
API int nvrtcGetSupportedArchs(int* a) { a[0] = 80; a[1] = 90; return OK; }
API int nvrtcCreateProgram(Program** out, const char* source, const char*, int, const char**, const char**) {
    *out = new Program;
    (*out)->source = source;
    return OK;
}
API int nvrtcDestroyProgram(Program** program) { delete *program; *program = nullptr; return OK; }
API int nvrtcAddNameExpression(Program* program, const char* name) { program->names.push_back(name); return OK; }
API int nvrtcCompileProgram(Program* program, int n, const char** options) {
    static const std::string version = compile_py("--version");
    program->version = version;                      // CuPy compiles an empty program to know its compiler
    if (program->source.empty()) return OK;
    std::string folder = "/tmp/fakecuda-XXXXXX", given, names;
    if (!mkdtemp(&folder[0])) return INVALID_PROGRAM;
    for (int i = 0; i < n; i++) given += std::string(options[i]) + "\n";
    for (auto& name : program->names) names += name + "\n";
    write(folder + "/source.cu", program->source);
    write(folder + "/options", given);
    write(folder + "/names", names);
    program->log = compile_py(folder) + read(folder + "/log");
    program->code = read(folder + "/kernels.so");
    std::stringstream lowered(read(folder + "/lowered"));
    for (std::string line; std::getline(lowered, line);) program->lowered.push_back(line);
    for (const char* name : {"source.cu", "options", "names", "log", "kernels.so", "lowered", "kernel.cpp"})
        unlink((folder + "/" + name).c_str());
    rmdir(folder.c_str());
    auto lock = locked();
    count("compilations");
    return program->code.empty() ? COMPILATION : OK;
}
API int nvrtcGetLoweredName(Program* program, const char* name, const char** out) {
    for (size_t i = 0; i < program->lowered.size(); i++)
        if (program->names[i] == name) { *out = program->lowered[i].c_str(); return OK; }
    return NO_SUCH_NAME;
}
#define GETTER(What, member) \
    API int nvrtcGet##What##Size(Program* p, size_t* size) { *size = p->member.size() + 1; return OK; } \
    API int nvrtcGet##What(Program* p, char* out) { memcpy(out, p->member.c_str(), p->member.size() + 1); return OK; }
GETTER(PTX, version) GETTER(CUBIN, code) GETTER(LTOIR, code) GETTER(ProgramLog, log)
