// What the compiled library says about itself, for deformwarp/native.py. It does not know torch: torch ships a
// pybind11 of its own that refuses the stable interface.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/kernels.h"
#include "cuda/architectures.h"
#include "cuda/plan.h"
#include "torch/cuda_stream.h"

namespace {

namespace py = pybind11;
using namespace deformwarp;

py::dict as_dict(const cuda::Plan& plan) {
  py::list launches;
  for (const cuda::Launch& launch : plan.launches) {
    launches.append(py::dict(py::arg("kernel") = launch.kernel, py::arg("blocks") = launch.blocks,
                             py::arg("threads") = launch.threads, py::arg("shared_bytes") = launch.shared_bytes));
  }
  return py::dict(py::arg("path") = plan.path == cuda::Path::planar ? "planar" : "general",
                  py::arg("why_not_planar") = plan.why_not_planar, py::arg("launches") = launches,
                  py::arg("workspace_bytes") = plan.workspace_bytes);
}

DType dtype_named(const std::string& name) {
  if (name == "float64") return DType::float64;
  if (name == "float32") return DType::float32;
  if (name == "float16") return DType::float16;
  if (name == "bfloat16") return DType::bfloat16;
  throw std::invalid_argument("dtype: is '" + name + "', but should be float64, float32, float16 or bfloat16");
}

// Keys are the fields of Problem and Device; plans look at sizes, and at whether a mask is there.
struct Shape {
  explicit Shape(const py::dict& from) {
    const auto number = [&](const char* key) { return from[key].cast<int64_t>(); };
    const auto pairs = [&](const char* key) { return from[key].cast<std::vector<std::pair<int64_t, int64_t>>>(); };
    const auto dilations = pairs("dilations"), paddings = pairs("paddings");
    for (size_t d = 0; d < dilations.size(); ++d) {
      branches.push_back({dilations[d].first, dilations[d].second, paddings.at(d).first, paddings.at(d).second,
                          &present, 0, from["masked"].cast<bool>() ? &present : nullptr, 0});
    }
    problem = {dtype_named(from["dtype"].cast<std::string>()),
               number("samples"),
               number("channels"),
               number("height"),
               number("width"),
               number("out_channels"),
               number("out_height"),
               number("out_width"),
               number("kernel_h"),
               number("kernel_w"),
               number("stride_h"),
               number("stride_w"),
               number("groups"),
               number("offset_groups"),
               int64_t(branches.size()),
               branches.data(),
               1.0,
               &present,
               &present};
  }
  Shape(const Shape&) = delete;

  Problem problem;
  std::vector<Branch> branches;
  alignas(16) char present = 0;  // as torch allocates
};

cuda::Device device_of(const py::dict& from) {
  const auto number = [&](const char* key) { return from[key].cast<int>(); };
  return {number("architecture"),
          number("multiprocessors"),
          number("shared_bytes_per_block"),
          number("shared_bytes_per_multiprocessor"),
          number("shared_bytes_reserved_per_block"),
          number("threads_per_multiprocessor")};
}

py::dict cuda_plan_forward(const py::dict& problem, const py::dict& device) {
  return as_dict(cuda::plan_forward(Shape(problem).problem, device_of(device)));
}

py::dict cuda_plan_backward(const py::dict& problem, const py::dict& device, bool input, bool sampling, bool weight) {
  return as_dict(cuda::plan_backward(Shape(problem).problem, {input, sampling, weight}, device_of(device)));
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "Build information of deformwarp's compiled library; the operators are in torch.ops.deformwarp.";
  module.attr("compiler") = DEFORMWARP_COMPILER;
  module.attr("torch_target") = DEFORMWARP_TORCH_TARGET;
  module.attr("torch_headers") = DEFORMWARP_TORCH_HEADERS;
  module.attr("cuda_architectures") = DEFORMWARP_CUDA_ARCHITECTURES;
  module.def("available_isas", &deformwarp::available_isas,
             "Instruction sets in the library that run on this processor, widest first.");
  module.def("current_isa", &deformwarp::current_isa, "The instruction set whose CPU kernels are in use.");
  module.def("cuda_runs_on", &deformwarp::cuda::runs_on, pybind11::arg("built"), pybind11::arg("architecture"),
             "Whether kernels built for a list of architectures run on a device.");
  module.def(
      "torch_names_cuda_streams", [] { return deformwarp::cuda::current_stream_of_torch() != nullptr; },
      "Whether torch can be asked for its current stream on a GPU.");
  module.def("cuda_plan_forward", &cuda_plan_forward, pybind11::arg("problem"), pybind11::arg("device"),
             "The launches of a forward.");
  module.def("cuda_plan_backward", &cuda_plan_backward, pybind11::arg("problem"), pybind11::arg("device"),
             pybind11::arg("input"), pybind11::arg("sampling"), pybind11::arg("weight"), "The launches of a backward.");
  module.def("use_isa", &deformwarp::use_isa, pybind11::arg("name"),
             "Take the CPU kernels of that instruction set from now on.");
}
