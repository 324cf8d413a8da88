# cmake -DOUT=<file.cpp> -DLANGUAGE=<wgsl|msl> -DKERNELS=<files> -P embed_kernels.cmake: their texts, by name.
set(rows "")
foreach(kernel IN LISTS KERNELS)
    get_filename_component(name ${kernel} NAME_WE)
    file(READ ${kernel} text)
    string(APPEND rows "    {\"${name}\", R\"kernel(${text})kernel\"},\n")
endforeach()
file(WRITE ${OUT} "#include \"gpu/kernels.h\"

#include <cassert>

namespace edgekit::gpu {

std::string_view ${LANGUAGE}(std::string_view name) {
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
