// Entry points of streams, events and captured graphs.
#include <chrono>

#include "backend/ascend/twin/acl/enqueue.h"
#include "backend/ascend/twin/acl/entry_points.h"
#include "backend/ascend/twin/acl/world.h"

namespace ridge::backend::ascend::twin_acl {
namespace {

using Clock = std::chrono::steady_clock;

void refuse_captured(const StreamState& stream, const char* call) {
  if (stream.capture == nullptr) return;
  throw Failure{status::stream_captured,
                fmt::format("{}: the stream is being captured; aclmdlRICaptureEnd comes first", call)};
}

void refuse_events_in_captures(const StreamState& stream, const char* call) {
  if (stream.capture == nullptr) return;
  throw Failure{status::runtime_feature_unsupported,
                fmt::format("{}: the twin captures single streams, without events", call)};
}

void throw_failure(StreamQueue& queue) {
  if (auto failure = queue.failure()) throw Failure(*failure);
}

void synchronize(abi::StreamHandle handle, const char* call,
                 std::optional<Clock::time_point> deadline) {
  World& all = world();
  std::shared_ptr<StreamState> stream;
  {
    const std::lock_guard lock(all.mutex);
    stream = all.stream(handle, call);
    refuse_captured(*stream, call);
    all.refuse_while_capturing(call);
  }
  if (!stream->queue.wait(deadline)) {
    throw Failure{status::stream_wait_timed_out,
                  fmt::format("{}: {} tasks are still to be done", call, stream->queue.pending())};
  }
  throw_failure(stream->queue);
}

void refuse_unrecorded(const EventState& event, const char* call) {
  if (event.queued > 0) return;
  throw Failure{status::runtime_invalid_parameter,
                fmt::format("{}: nobody has recorded the event", call)};
}

std::shared_ptr<EventState> find_event(abi::EventHandle handle, const char* call) {
  const std::lock_guard lock(world().mutex);
  return world().events.find(handle, call);
}


}  // namespace

void enqueue(StreamState& stream, std::function<double()> run) {
  Task task{[run = std::move(run)] {
    count_call("task");
    return run();
  }};
  if (stream.capture != nullptr) {
    stream.capture->tasks.push_back(std::move(task));
  } else {
    stream.queue.push(std::move(task));
  }
}

extern "C" {

abi::Status aclrtCreateStreamWithConfig(abi::StreamHandle* stream, uint32_t priority, uint32_t) {
  constexpr const char* call = "aclrtCreateStreamWithConfig";
  return entry(call, [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto [context, state] = all.context(call);
    if (priority > 7) {
      throw Failure{status::runtime_invalid_parameter,
                    fmt::format("{}: priority {}; 0 to 7 would be right", call, priority)};
    }
    auto made = std::make_shared<StreamState>();
    made->context = context;
    made->device = state->device;
    *stream = all.streams.add(std::move(made));
  });
}

abi::Status aclrtDestroyStream(abi::StreamHandle handle) {
  return releasing_entry("aclrtDestroyStream", [&] {
    World& all = world();
    std::shared_ptr<StreamState> stream;
    {
      const std::lock_guard lock(all.mutex);
      for (const auto& [context, state] : all.contexts.all()) {
        if (state->default_stream == handle) {
          throw Failure{status::runtime_invalid_parameter,
                        "aclrtDestroyStream: the default stream goes with its context"};
        }
      }
      stream = all.streams.take(handle, "aclrtDestroyStream");
    }
    // Its tasks are run all the same, when the last owner lets it go.
    refuse_captured(*stream, "aclrtDestroyStream");
    if (const size_t pending = stream->queue.pending(); pending > 0) {
      throw Failure{status::runtime_invalid_parameter,
                    fmt::format("aclrtDestroyStream: {} tasks are still to be done; "
                                "aclrtSynchronizeStream comes first",
                                pending)};
    }
  });
}

abi::Status aclrtSynchronizeStream(abi::StreamHandle stream) {
  return entry("aclrtSynchronizeStream",
               [&] { synchronize(stream, "aclrtSynchronizeStream", std::nullopt); });
}

abi::Status aclrtSynchronizeStreamWithTimeout(abi::StreamHandle stream, int32_t timeout_ms) {
  constexpr const char* call = "aclrtSynchronizeStreamWithTimeout";
  return entry(call, [&] {
    if (timeout_ms < -1) {
      throw Failure{status::runtime_invalid_parameter,
                    fmt::format("{}: {} ms; -1 or more would be right", call, timeout_ms)};
    }
    std::optional<Clock::time_point> deadline;
    if (timeout_ms >= 0) deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
    synchronize(stream, call, deadline);
  });
}

abi::Status aclrtCreateEventExWithFlag(abi::EventHandle* event, uint32_t flags) {
  constexpr const char* call = "aclrtCreateEventExWithFlag";
  constexpr uint32_t known = 0x1 | 0x2 | 0x8;
  return entry(call, [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    all.context(call);
    if (flags == 0 || (flags & ~known) != 0) {
      throw Failure{status::runtime_invalid_parameter,
                    fmt::format("{}: flags {:#x}; 0x1, 0x2 and 0x8 are there", call, flags)};
    }
    *event = all.events.add(
        std::make_shared<EventState>(/*keeps_time=*/(flags & abi::event_with_time) != 0));
  });
}

abi::Status aclrtDestroyEvent(abi::EventHandle handle) {
  return releasing_entry("aclrtDestroyEvent", [&] {
    std::shared_ptr<EventState> event;
    {
      const std::lock_guard lock(world().mutex);
      event = world().events.take(handle, "aclrtDestroyEvent");
    }
    const std::lock_guard lock(event->mutex);
    if (event->tasks > 0) {
      throw Failure{status::runtime_invalid_parameter,
                    fmt::format("aclrtDestroyEvent: {} tasks of streams still name the event",
                                event->tasks)};
    }
  });
}

abi::Status aclrtRecordEvent(abi::EventHandle handle, abi::StreamHandle stream_handle) {
  return entry("aclrtRecordEvent", [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto event = all.events.find(handle, "aclrtRecordEvent");
    const auto stream = all.stream(stream_handle, "aclrtRecordEvent");
    refuse_events_in_captures(*stream, "aclrtRecordEvent");
    uint64_t number = 0;
    {
      const std::lock_guard of_event(event->mutex);
      number = ++event->queued;
      ++event->tasks;
    }
    StreamQueue& queue = stream->queue;
    queue.push({[event, number, &queue] {
                  {
                    const std::lock_guard of_event(event->mutex);
                    event->reached = std::max(event->reached, number);
                    event->microseconds = queue.clock_us;
                    event->failure = queue.failure();
                    --event->tasks;
                  }
                  event->changed.notify_all();
                  return 0.0;
                },
                /*runs_after_failure=*/true});
  });
}

abi::Status aclrtStreamWaitEvent(abi::StreamHandle stream_handle, abi::EventHandle handle) {
  constexpr const char* call = "aclrtStreamWaitEvent";
  return entry(call, [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto event = all.events.find(handle, call);
    const auto stream = all.stream(stream_handle, call);
    refuse_events_in_captures(*stream, call);
    uint64_t number = 0;
    {
      const std::lock_guard of_event(event->mutex);
      refuse_unrecorded(*event, call);
      number = event->queued;
      ++event->tasks;
    }
    StreamQueue& queue = stream->queue;
    queue.push({[event, number, &queue] {
                  std::unique_lock of_event(event->mutex);
                  event->changed.wait(of_event, [&] { return event->reached >= number; });
                  const double later = std::max(0.0, event->microseconds - queue.clock_us);
                  --event->tasks;
                  return later;
                },
                /*runs_after_failure=*/true});
  });
}

abi::Status aclrtQueryEventStatus(abi::EventHandle handle, abi::EventStatus* event_status) {
  constexpr const char* call = "aclrtQueryEventStatus";
  return entry(call, [&] {
    const auto event = find_event(handle, call);
    const std::lock_guard lock(event->mutex);
    refuse_unrecorded(*event, call);
    const bool is_reached = event->reached == event->queued;
    *event_status = is_reached ? abi::EventStatus::complete : abi::EventStatus::not_ready;
    if (is_reached && event->failure) throw Failure(*event->failure);
  });
}

abi::Status aclrtSynchronizeEvent(abi::EventHandle handle) {
  constexpr const char* call = "aclrtSynchronizeEvent";
  return entry(call, [&] {
    {
      const std::lock_guard lock(world().mutex);
      world().refuse_while_capturing(call);
    }
    const auto event = find_event(handle, call);
    std::unique_lock lock(event->mutex);
    refuse_unrecorded(*event, call);
    const uint64_t number = event->queued;
    event->changed.wait(lock, [&] { return event->reached >= number; });
    if (event->failure) throw Failure(*event->failure);
  });
}

abi::Status aclrtEventElapsedTime(float* milliseconds, abi::EventHandle start_handle,
                                  abi::EventHandle end_handle) {
  constexpr const char* call = "aclrtEventElapsedTime";
  return entry(call, [&] {
    const auto time_of = [&](abi::EventHandle handle) {
      const auto event = find_event(handle, call);
      const std::lock_guard lock(event->mutex);
      refuse_unrecorded(*event, call);
      if (!event->keeps_time || event->reached != event->queued) {
        throw Failure{status::runtime_invalid_parameter,
                      fmt::format("{}: an event {}", call,
                                  event->keeps_time
                                      ? "is not reached yet"
                                      : "keeps no time, having been made without 0x8")};
      }
      return event->microseconds;
    };
    const double start_us = time_of(start_handle);
    *milliseconds = static_cast<float>((time_of(end_handle) - start_us) / 1000);
  });
}

abi::Status aclmdlRICaptureBegin(abi::StreamHandle handle, abi::CaptureMode mode) {
  constexpr const char* call = "aclmdlRICaptureBegin";
  return entry(call, [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto stream = all.stream(handle, call);
    const auto context = all.contexts.find(stream->context, call);
    if (handle == nullptr || handle == context->default_stream) {
      throw Failure{status::default_stream_captured,
                    fmt::format("{}: another stream than the default one has to be taken", call)};
    }
    refuse_captured(*stream, call);
    stream->capture = std::make_shared<GraphState>();
    stream->capture->device = stream->device;
    stream->mode = mode;
    stream->capturer = std::this_thread::get_id();
  });
}

abi::Status aclmdlRICaptureEnd(abi::StreamHandle handle, abi::GraphHandle* graph) {
  constexpr const char* call = "aclmdlRICaptureEnd";
  return entry(call, [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto stream = all.stream(handle, call);
    if (stream->capture == nullptr) {
      throw Failure{status::stream_not_captured,
                    fmt::format("{}: aclmdlRICaptureBegin comes first", call)};
    }
    *graph = all.graphs.add(std::exchange(stream->capture, nullptr));
  });
}

abi::Status aclmdlRIExecuteAsync(abi::GraphHandle handle, abi::StreamHandle stream_handle) {
  constexpr const char* call = "aclmdlRIExecuteAsync";
  return entry(call, [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto graph = all.graphs.find(handle, call);
    const auto stream = all.stream(stream_handle, call);
    refuse_captured(*stream, call);
    if (graph->device != stream->device) {
      throw Failure{status::invalid_device,
                    fmt::format("{}: the graph is of device {}, the stream of device {}", call,
                                graph->device, stream->device)};
    }
    ++graph->running;
    for (const Task& task : graph->tasks) stream->queue.push(task);
    stream->queue.push({[graph] {
                          --graph->running;
                          return 0.0;
                        },
                        /*runs_after_failure=*/true});
  });
}

abi::Status aclmdlRIDestroy(abi::GraphHandle handle) {
  return releasing_entry("aclmdlRIDestroy", [&] {
    const std::lock_guard lock(world().mutex);
    const auto graph = world().graphs.take(handle, "aclmdlRIDestroy");
    if (graph->running > 0) {
      throw Failure{status::runtime_invalid_parameter,
                    "aclmdlRIDestroy: the graph is still to be run; synchronise first"};
    }
  });
}

}  // extern "C"

}  // namespace ridge::backend::ascend::twin_acl
