// What plans need to know of a device. Plain data: plans for every architecture can be made and tested anywhere.
#pragma once

namespace deformwarp::cuda {

struct Device {
  int architecture;  // 10 * major + minor: 75, 80, 90, 100, 120
  int multiprocessors;
  int shared_bytes_per_block;  // the most that a block can ask for
  int shared_bytes_per_multiprocessor;
  int shared_bytes_reserved_per_block;  // beyond what it asks for
  int threads_per_multiprocessor;
};

// The device that is current in the calling thread.
Device current_device();

// A cudaStream_t; null is the default stream.
using Stream = void*;

}  // namespace deformwarp::cuda
