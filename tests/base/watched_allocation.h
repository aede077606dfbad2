#pragma once

#include <cstdlib>
#include <new>

// Puts every allocation of the program through `before_allocation`, which the including file
// defines and which may throw std::bad_alloc. For one file of a test program of its own.
void before_allocation(size_t size_bytes);

// Not inline: GCC warns of free() where it sees both it and the operator.
[[gnu::noinline]] static void* watched_allocation(size_t size_bytes) {
  before_allocation(size_bytes);
  if (void* memory = std::malloc(size_bytes)) return memory;
  throw std::bad_alloc();
}

void* operator new(size_t size) { return watched_allocation(size); }
void* operator new[](size_t size) { return watched_allocation(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
