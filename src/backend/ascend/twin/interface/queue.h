#pragma once

#include <deque>
#include <vector>

#include "backend/ascend/twin/interface/sync.h"
#include "backend/ascend/twin/interface/tensor.h"

// Buffers of local memory: TPipe hands them out, TBuf holds one, TQue passes several between two
// pipes and sets and waits for the flags that this needs.
namespace AscendC {

constexpr twin::Space space_of(TPosition position) {
  using enum TPosition;
  switch (position) {
    case GM: case CO2: return twin::Space::gm;
    case A1: case B1: case C1: case TSCM: return twin::Space::l1;
    case A2: return twin::Space::l0a;
    case B2: return twin::Space::l0b;
    case C2: return twin::Space::bias_table;
    case CO1: return twin::Space::l0c;
    case C2PIPE2GM: return twin::Space::fixpipe;
    case VECIN: case VECOUT: case VECCALC: return twin::Space::ub;
  }
  return twin::Space::gm;
}

// EnQue of a queue at `position` is a flag from the pipe that fills its buffers to the one that
// empties them, FreeTensor one back.
constexpr HardEvent filled_event(TPosition position) {
  using enum TPosition;
  switch (position) {
    case A1: case B1: return HardEvent::MTE2_MTE1;
    case A2: case B2: return HardEvent::MTE1_M;
    case CO1: return HardEvent::M_FIX;
    case VECOUT: return HardEvent::V_MTE3;
    default: return HardEvent::MTE2_V;
  }
}

class BufferQueue {
 public:
  // `filled` says which pipe fills the buffers and which empties them.
  BufferQueue(twin::Space space, EventPipes filled, int depth)
      : space_(space), filled_(filled), depth_(depth) {}
  ~BufferQueue();
  BufferQueue(const BufferQueue&) = delete;
  BufferQueue& operator=(const BufferQueue&) = delete;

  void init(uint8_t count, uint32_t bytes, twin::Site site);
  twin::Operand allocate(twin::Type type, twin::Site site);
  void enqueue(const twin::Operand& tensor, twin::Site site);
  twin::Operand dequeue(twin::Type type, twin::Site site);
  void free(const twin::Operand& tensor, twin::Site site);

 private:
  enum class State : uint8_t { free, allocated, enqueued, dequeued };
  struct Buffer {
    uint64_t begin;
    uint64_t end;
    State state = State::free;
    int flag = -1;  // set by EnQue or FreeTensor and not yet waited for
    twin::Site last;
  };
  Buffer& buffer_of(const twin::Operand& tensor, State wanted, const char* before,
                    const twin::Site& site);
  twin::Operand tensor_of(const Buffer& buffer, twin::Type type) const;
  int set(EventPipes pipes, const twin::Site& site);
  void wait(EventPipes pipes, int& flag, const twin::Site& site);

  const twin::Space space_;
  const EventPipes filled_;
  const int depth_;
  std::vector<Buffer> buffers_;
  std::deque<size_t> queue_;
  size_t next_ = 0;
};

// Between any two positions of one memory: what comes in at `source` goes out from `target`.
template <TPosition source, TPosition target, int32_t depth, auto mask = 0>
class TQueBind {
  static constexpr bool passes_through =
      source == TPosition::VECIN && target == TPosition::VECOUT;
  static constexpr EventPipes filled =
      pipes_of(passes_through ? HardEvent::MTE2_MTE3 : filled_event(source));
  static_assert(passes_through || source == target, "the twin has no queue between these positions");
  static_assert(source == TPosition::VECIN || source == TPosition::VECOUT ||
                    source == TPosition::A1 || source == TPosition::B1 ||
                    source == TPosition::A2 || source == TPosition::B2 ||
                    source == TPosition::CO1,
                "the twin has no queue at this position");

 public:
  template <typename T>
  LocalTensor<T> AllocTensor(Where where = Where::current()) {
    return LocalTensor<T>(queue_.allocate(twin::type_of<T>, {"AllocTensor", where}));
  }
  template <typename T>
  bool EnQue(const LocalTensor<T>& tensor, Where where = Where::current()) {
    queue_.enqueue(tensor.operand(), {"EnQue", where});
    return true;
  }
  template <typename T>
  LocalTensor<T> DeQue(Where where = Where::current()) {
    return LocalTensor<T>(queue_.dequeue(twin::type_of<T>, {"DeQue", where}));
  }
  template <typename T>
  void FreeTensor(LocalTensor<T>& tensor, Where where = Where::current()) {
    queue_.free(tensor.operand(), {"FreeTensor", where});
  }

 private:
  friend class TPipe;
  BufferQueue queue_{space_of(source), filled, depth};
};

template <TPosition position, int32_t depth, auto mask = 0>
class TQue : public TQueBind<position, position, depth, mask> {};

template <TPosition position = TPosition::VECCALC>
class TBuf {
 public:
  template <typename T>
  LocalTensor<T> Get() {
    return LocalTensor<T>({space_of(position), twin::type_of<T>, begin_, begin_, end_});
  }

 private:
  friend class TPipe;
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
};

class TPipe {
 public:
  TPipe();
  ~TPipe();
  TPipe(const TPipe&) = delete;
  TPipe& operator=(const TPipe&) = delete;

  template <TPosition source, TPosition target, int32_t depth, auto mask>
  bool InitBuffer(TQueBind<source, target, depth, mask>& queue, uint8_t count, uint32_t bytes,
                  Where where = Where::current()) {
    queue.queue_.init(count, bytes, {"InitBuffer", where});
    return true;
  }
  template <TPosition position>
  bool InitBuffer(TBuf<position>& buffer, uint32_t bytes, Where where = Where::current()) {
    buffer.begin_ = twin::Core::current().allocate_buffer(space_of(position), bytes,
                                                          {"InitBuffer", where});
    buffer.end_ = buffer.begin_ + (bytes + 31) / 32 * 32;
    return true;
  }
  TEventID FetchEventID(HardEvent event, Where where = Where::current());
};

// The TPipe that the kernel made.
TPipe* GetTPipePtr();

}  // namespace AscendC
