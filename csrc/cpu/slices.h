// How the backward's work is cut, and how the parts are put together again. Both depend on the problem alone,
// never on the number of threads: gradients are bitwise the same on any machine size.
#pragma once

#include "../problem.h"
#include "pool.h"
#include "storage.h"

namespace deformwarp::DEFORMWARP_ISA {

// Some samples, or some output pixels of one sample.
struct Slice {
  int64_t first_sample, last_sample;
  int64_t begin, end;  // output pixels
  int64_t segment;     // which part of its samples' pixels
};

class Slices {
 public:
  // About `wanted` slices; where the batch alone does not give as many, samples are cut into segments.
  Slices(const Problem& problem, int64_t wanted)
      : samples_(problem.samples),
        out_plane_(problem.out_plane()),
        chunks_(std::min(samples_, wanted)),
        segments_(samples_ == 0 ? 1 : std::min((wanted + samples_ - 1) / samples_, out_plane_)) {}

  int64_t count() const { return chunks_ * segments_; }
  int64_t segments() const { return segments_; }

  Slice operator[](int64_t number) const {
    const int64_t chunk = number / segments_, segment = number % segments_;
    return {chunk * samples_ / chunks_, (chunk + 1) * samples_ / chunks_, segment * out_plane_ / segments_,
            (segment + 1) * out_plane_ / segments_, segment};
  }

 private:
  int64_t samples_, out_plane_, chunks_, segments_;
};

// grad_input of all segments, where a sample has more than one: [segments, N, C, H, W].
template <class Stored>
class InputGradient {
  using T = Arithmetic<Stored>;

 public:
  InputGradient(const Problem& problem, void* grad_input, int64_t segments)
      : planes_(problem.samples * problem.channels),
        plane_(problem.plane()),
        segments_(segments),
        grad_input_(static_cast<Stored*>(grad_input)) {
    if (wanted() && segments > 1) parts_ = make_scratch<T>(segments * planes_ * plane_);
  }

  bool wanted() const { return grad_input_ != nullptr; }

  // One segment's finished plane: [H, W].
  void put(int64_t segment, int64_t plane_index, const T* pixels) const {
    if (parts_ != nullptr) {
      std::copy_n(pixels, plane_, parts_.get() + (segment * planes_ + plane_index) * plane_);
    } else {
      narrow_row(pixels, grad_input_ + plane_index * plane_, plane_);
    }
  }

  void add_up(const Pool& pool) const {
    if (parts_ == nullptr) return;
    pool.for_each(planes_, [&](ItemQueue& queue) {
      for (int64_t plane; queue.pop(plane);) {
        T* sum = parts_.get() + plane * plane_;
        for (int64_t s = 1; s < segments_; ++s) {
          const T* part = sum + s * planes_ * plane_;
          for (int64_t i = 0; i < plane_; ++i) sum[i] += part[i];
        }
        narrow_row(sum, grad_input_ + plane * plane_, plane_);
      }
    });
  }

 private:
  int64_t planes_, plane_, segments_;
  Stored* grad_input_;
  Scratch<T> parts_;
};

}  // namespace deformwarp::DEFORMWARP_ISA
