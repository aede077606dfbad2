#include "backend/ascend/twin/interface/queue.h"

#include <fmt/format.h>

#include <exception>

#include "backend/ascend/twin/launch_state.h"

namespace AscendC {

using twin::Core;
using twin::Finding;
using twin::Operand;
using twin::Site;

void check_core_type(KernelMetaType type, Where where) {
  Core& core = Core::current();
  if (static_cast<int>(type) == static_cast<int>(core.launch.kernel.core_type)) return;
  core.fail(Finding::Kind::parameter, {"KERNEL_TASK_TYPE_DEFAULT", where},
            "names other cores than those for which the kernel is registered");
}

bool runs_on_cube_core() { return Core::current().kind == Core::Kind::cube; }

int64_t GetBlockIdx() { return Core::current().block_index(); }
int64_t GetBlockNum() { return Core::current().launch.block_dim; }
int64_t GetSubBlockIdx() { return Core::current().sub_block; }

BufferQueue::~BufferQueue() {
  Core& core = Core::current();
  if (core.unwinding || std::uncaught_exceptions() > 0) return;
  for (const Buffer& buffer : buffers_) {
    if (buffer.state == State::free) continue;
    core.report(Finding::Kind::queue, buffer.last,
                buffer.state == State::enqueued ? "puts in a tensor that nobody takes out"
                                                : "gets a tensor that is never given back by "
                                                  "FreeTensor");
  }
}

void BufferQueue::init(uint8_t count, uint32_t bytes, Site site) {
  Core& core = Core::current();
  if (bytes == 0 || count == 0) {
    core.fail(Finding::Kind::parameter, site, "asks for no buffer at all");
  }
  for (int i = 0; i < count; ++i) {
    const uint64_t begin = core.allocate_buffer(space_, bytes, site);
    buffers_.push_back({begin, begin + (bytes + 31) / 32 * 32, State::free, -1, site});
  }
}

Operand BufferQueue::tensor_of(const Buffer& buffer, twin::Type type) const {
  return {space_, type, buffer.begin, buffer.begin, buffer.end};
}

int BufferQueue::set(EventPipes pipes, const Site& site) {
  Core& core = Core::current();
  const int flag = core.allocate_flag(pipes.from, pipes.to);
  if (flag < 0) {
    core.fail(Finding::Kind::flag, site,
              fmt::format("finds all 8 flags from {} to {} in use", twin::name(pipes.from),
                          twin::name(pipes.to)));
  }
  core.set_flag(pipes.from, pipes.to, flag, site);
  return flag;
}

void BufferQueue::wait(EventPipes pipes, int& flag, const Site& site) {
  if (flag < 0) return;
  Core& core = Core::current();
  core.wait_flag(pipes.from, pipes.to, flag, site);
  core.release_flag(pipes.from, pipes.to, flag);
  flag = -1;
}

Operand BufferQueue::allocate(twin::Type type, Site site) {
  Core& core = Core::current();
  if (buffers_.empty()) core.fail(Finding::Kind::queue, site, "comes before InitBuffer");
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const size_t index = (next_ + i) % buffers_.size();
    Buffer& buffer = buffers_[index];
    if (buffer.state != State::free) continue;
    next_ = (index + 1) % buffers_.size();
    wait({filled_.to, filled_.from}, buffer.flag, site);
    buffer.state = State::allocated;
    buffer.last = site;
    return tensor_of(buffer, type);
  }
  core.fail(Finding::Kind::queue, site,
            fmt::format("finds none of the {} buffers free; FreeTensor gives one back",
                        buffers_.size()));
}

BufferQueue::Buffer& BufferQueue::buffer_of(const Operand& tensor, State wanted,
                                            const char* before, const Site& site) {
  for (Buffer& buffer : buffers_) {
    if (buffer.begin != tensor.begin || tensor.space != space_) continue;
    if (buffer.state != wanted) {
      Core::current().fail(Finding::Kind::queue, site,
                           fmt::format("takes a tensor that does not come from {}", before));
    }
    return buffer;
  }
  Core::current().fail(Finding::Kind::queue, site, "takes a tensor of another buffer");
}

void BufferQueue::enqueue(const Operand& tensor, Site site) {
  Buffer& buffer = buffer_of(tensor, State::allocated, "AllocTensor", site);
  if (static_cast<int>(queue_.size()) >= depth_) {
    Core::current().fail(Finding::Kind::queue, site,
                         fmt::format("puts in more than the queue's depth of {}", depth_));
  }
  buffer.flag = set(filled_, site);
  buffer.state = State::enqueued;
  buffer.last = site;
  queue_.push_back(static_cast<size_t>(&buffer - buffers_.data()));
}

Operand BufferQueue::dequeue(twin::Type type, Site site) {
  if (queue_.empty()) {
    Core::current().fail(Finding::Kind::queue, site, "takes from an empty queue");
  }
  Buffer& buffer = buffers_[queue_.front()];
  queue_.pop_front();
  wait(filled_, buffer.flag, site);
  buffer.state = State::dequeued;
  buffer.last = site;
  return tensor_of(buffer, type);
}

void BufferQueue::free(const Operand& tensor, Site site) {
  Buffer* found = nullptr;
  for (Buffer& buffer : buffers_) {
    if (buffer.begin == tensor.begin && tensor.space == space_) found = &buffer;
  }
  if (!found || (found->state != State::dequeued && found->state != State::allocated)) {
    Core::current().fail(Finding::Kind::queue, site, "gives back a tensor that is not in use");
  }
  found->flag = set({filled_.to, filled_.from}, site);
  found->state = State::free;
  found->last = site;
}

TPipe::TPipe() {
  Core& core = Core::current();
  core.reset_buffers();
  core.tpipe = this;
}
TPipe::~TPipe() { Core::current().tpipe = nullptr; }

TPipe* GetTPipePtr() { return Core::current().tpipe; }

TEventID TPipe::FetchEventID(HardEvent event, Where where) {
  const EventPipes pipes = pipes_of(event);
  const int id = Core::current().free_flag(pipes.from, pipes.to);
  if (id < 0) {
    Core::current().fail(Finding::Kind::flag, {"FetchEventID", where}, "finds no free flag");
  }
  return static_cast<TEventID>(id);
}

}  // namespace AscendC
