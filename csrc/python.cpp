// What the compiled library says about itself, for deformwarp/native.py. It does not know torch: torch ships a
// pybind11 of its own that refuses the stable interface.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/kernels.h"

PYBIND11_MODULE(_C, module) {
  module.doc() = "Build information of deformwarp's compiled library; the operators are in torch.ops.deformwarp.";
  module.attr("compiler") = DEFORMWARP_COMPILER;
  module.attr("torch_target") = DEFORMWARP_TORCH_TARGET;
  module.attr("torch_headers") = DEFORMWARP_TORCH_HEADERS;
  module.attr("cuda_architectures") = DEFORMWARP_CUDA_ARCHITECTURES;
  module.def("available_isas", &deformwarp::available_isas,
             "Instruction sets in the library that run on this processor, widest first.");
  module.def("current_isa", &deformwarp::current_isa, "The instruction set whose CPU kernels are in use.");
  module.def("use_isa", &deformwarp::use_isa, pybind11::arg("name"),
             "Take the CPU kernels of that instruction set from now on.");
}
