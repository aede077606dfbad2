#include "communicator/mpi.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <thread>
#include <vector>

#include "base/error.h"

namespace ridge::communicator {

namespace {

// Of Open MPI since 1.10 and up to 5, whose binary interface this is: handles are addresses of what
// the library exports. The standard (MPI 3.1) says what the functions do.
constexpr const char* library_name = "libmpi.so.40";
constexpr int thread_funneled = 1;

class Library {
 public:
  // Throws unsupported.
  Library() : handle_(::dlopen(library_name, RTLD_NOW | RTLD_GLOBAL)) {  // its plug-ins look there
    if (handle_ == nullptr) {
      throw Error(ErrorCode::unsupported,
                  fmt::format("MPI is not there: {}; {}", ::dlerror(), mpi_advice));
    }
    find(init_thread, "MPI_Init_thread");
    find(comm_rank, "MPI_Comm_rank");
    find(comm_size, "MPI_Comm_size");
    find(allgatherv, "MPI_Allgatherv");
    find(ibcast, "MPI_Ibcast");
    find(test, "MPI_Test");
    find(finalize, "MPI_Finalize");
    find(world, "ompi_mpi_comm_world");
    find(byte, "ompi_mpi_byte");
  }

  int (*init_thread)(int*, char***, int, int*) = nullptr;
  int (*comm_rank)(void*, int*) = nullptr;
  int (*comm_size)(void*, int*) = nullptr;
  int (*allgatherv)(const void*, int, void*, void*, const int*, const int*, void*,
                    void*) = nullptr;
  int (*ibcast)(void*, int, void*, int, void*, void**) = nullptr;
  int (*test)(void**, int*, void*) = nullptr;
  int (*finalize)() = nullptr;
  void* world = nullptr;
  void* byte = nullptr;

 private:
  template <typename Pointer>
  void find(Pointer& pointer, const char* name) {
    pointer = reinterpret_cast<Pointer>(::dlsym(handle_, name));
    if (pointer == nullptr) {
      throw Error(ErrorCode::unsupported,
                  fmt::format("{} has no {}, and so is not Open MPI's; {}", library_name, name,
                              mpi_advice));
    }
  }

  void* const handle_;  // never closed: MPI leaves threads behind
};

// Errors of MPI end the process: that is its own default, and all that a rank can do.
class Mpi final : public backend::Communicator {
 public:
  Mpi() {
    int provided = 0;
    library_.init_thread(nullptr, nullptr, thread_funneled, &provided);
    library_.comm_rank(library_.world, &rank_);
    library_.comm_size(library_.world, &ranks_);
  }
  ~Mpi() override { library_.finalize(); }

  int rank() const override { return rank_; }
  int ranks() const override { return ranks_; }

  void all_gather(std::span<const std::byte> own, std::span<const size_t> counts,
                  std::span<std::byte> all) override {
    RIDGE_ASSERT(counts.size() == static_cast<size_t>(ranks_) && all.size() <= INT_MAX);
    RIDGE_ASSERT(counts[static_cast<size_t>(rank_)] == own.size());
    counts_.clear();
    offsets_.clear();
    size_t offset = 0;
    for (const size_t count : counts) {
      counts_.push_back(static_cast<int>(count));
      offsets_.push_back(static_cast<int>(offset));
      offset += count;
    }
    RIDGE_ASSERT(offset == all.size());
    library_.allgatherv(own.data(), static_cast<int>(own.size()), library_.byte, all.data(),
                        counts_.data(), offsets_.data(), library_.byte, library_.world);
  }

  // MPI waits by asking again and again, which would take a processor while there are no requests.
  void broadcast(std::span<std::byte> bytes) override {
    using Clock = std::chrono::steady_clock;
    RIDGE_ASSERT(bytes.size() <= INT_MAX);
    void* request = nullptr;
    library_.ibcast(bytes.data(), static_cast<int>(bytes.size()), library_.byte, 0, library_.world,
                    &request);
    const auto start = Clock::now();
    for (int done = 0; true;) {
      library_.test(&request, &done, /*status=*/nullptr);
      if (done != 0) return;
      const auto waited = Clock::now() - start;
      if (waited < std::chrono::milliseconds(5)) {
        ::sched_yield();
      } else {
        std::this_thread::sleep_for(std::min<Clock::duration>(waited / 50, most_sleep));
      }
    }
  }

 private:
  static constexpr std::chrono::milliseconds most_sleep{1};

  const Library library_;
  int rank_ = 0;
  int ranks_ = 1;
  std::vector<int> counts_, offsets_;
};

}  // namespace

bool has_mpi() {
  void* const handle = ::dlopen(library_name, RTLD_LAZY | RTLD_LOCAL);
  if (handle == nullptr) return false;
  const bool is_ours = ::dlsym(handle, "ompi_mpi_comm_world") != nullptr;
  ::dlclose(handle);
  return is_ours;
}

std::unique_ptr<backend::Communicator> join_mpi() { return std::make_unique<Mpi>(); }

}  // namespace ridge::communicator
