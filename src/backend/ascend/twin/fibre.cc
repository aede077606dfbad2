#include "backend/ascend/twin/fibre.h"

#include <sys/mman.h>

#include <cstdint>
#include <utility>

#include "base/error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace ridge::backend::ascend::twin {

namespace {

// Instrumented frames are several times larger. Pages are taken only as they are touched.
constexpr size_t stack_bytes = size_t{1} << 20;
constexpr size_t guard_bytes = 4096;  // below the stack, without access

void begin_switch([[maybe_unused]] void** keep, [[maybe_unused]] const void* stack,
                  [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(keep, stack, bytes);
#endif
}
void end_switch([[maybe_unused]] void* kept, [[maybe_unused]] const void** stack,
                [[maybe_unused]] size_t* bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(kept, stack, bytes);
#endif
}

}  // namespace

Fibre::Fibre(std::function<void()> body) : body_(std::move(body)) {
  void* mapped = mmap(nullptr, stack_bytes + guard_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error(ErrorCode::out_of_memory, "the host has no memory left for a core's stack");
  }
  stack_ = static_cast<std::byte*>(mapped);
  mprotect(stack_, guard_bytes, PROT_NONE);
  getcontext(&own_);
  own_.uc_stack.ss_sp = stack_ + guard_bytes;
  own_.uc_stack.ss_size = stack_bytes;
  own_.uc_link = nullptr;
  // makecontext passes ints.
  const auto self = reinterpret_cast<uint64_t>(this);
  makecontext(&own_, reinterpret_cast<void (*)()>(&Fibre::enter), 2,
              static_cast<unsigned>(self), static_cast<unsigned>(self >> 32));
}

Fibre::~Fibre() { munmap(stack_, stack_bytes + guard_bytes); }

void Fibre::enter(unsigned low, unsigned high) {
  Fibre* self = reinterpret_cast<Fibre*>(uint64_t{high} << 32 | low);
  end_switch(nullptr, &self->resumer_stack_, &self->resumer_stack_bytes_);
  self->body_();
  self->ended_ = true;
  // A null place to keep the fake stack tells the sanitizer that this one is done with.
  begin_switch(nullptr, self->resumer_stack_, self->resumer_stack_bytes_);
  swapcontext(&self->own_, &self->resumer_);
}

void Fibre::resume() {
  RIDGE_ASSERT(!ended_);
  begin_switch(&resumer_fake_stack_, stack_ + guard_bytes, stack_bytes);
  swapcontext(&resumer_, &own_);
  end_switch(resumer_fake_stack_, nullptr, nullptr);
}

void Fibre::suspend() {
  begin_switch(&own_fake_stack_, resumer_stack_, resumer_stack_bytes_);
  swapcontext(&own_, &resumer_);
  end_switch(own_fake_stack_, &resumer_stack_, &resumer_stack_bytes_);
}

}  // namespace ridge::backend::ascend::twin
