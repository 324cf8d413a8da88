# cmake -DOUT=<wgsl.cpp> -DKERNELS=<files> -P embed_wgsl.cmake: their texts, by name.
set(rows "")
foreach(kernel IN LISTS KERNELS)
    get_filename_component(name ${kernel} NAME_WE)
    file(READ ${kernel} text)
    string(APPEND rows "    {\"${name}\", R\"wgsl(${text})wgsl\"},\n")
endforeach()
file(WRITE ${OUT} "#include \"gpu/kernels.h\"

#include <cassert>

namespace edgekit::gpu {

std::string_view wgsl(std::string_view name) {
    static constexpr struct {
        std::string_view name, text;
    } kFiles[] = {
${rows}    };
    for (const auto& file : kFiles)
        if (file.name == name) return file.text;
    assert(false);
    return {};
}

}  // namespace edgekit::gpu
")
