#include "cli/answer_printer.h"

#include <fmt/format.h>

#include <cstdio>

namespace ridge::cli {
namespace {

void write(FILE* to, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), to);
  std::fflush(to);
}

}  // namespace

std::string safe_for_terminal(std::string_view text) {
  std::string safe;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F) {
      safe += '?';
    } else if (byte == 0xC2 && next >= 0x80 && next < 0xA0) {  // U+0080 to U+009F
      safe += '?';
      ++i;
    } else {
      safe += text[i];
    }
  }
  return safe;
}

void AnswerPrinter::print(std::string_view reasoning, std::string_view content) {
  if (!reasoning.empty()) print_reasoning(reasoning);
  if (content.empty()) return;
  end_reasoning();
  last_ = content.back();
  if (terminal_.is_terminal(Stream::output)) {
    write(stdout, safe_for_terminal(content));
  } else {
    write(stdout, content);
  }
}

void AnswerPrinter::print_reasoning(std::string_view text) {
  const bool to_output = terminal_.is_terminal(Stream::output);
  if (hides_reasoning_ || (is_quiet_ && !to_output)) return;
  in_reasoning_ = true;
  const Stream stream = to_output ? Stream::output : Stream::error;
  write(to_output ? stdout : stderr, terminal_.styled(stream, Style::dim, safe_for_terminal(text)));
}

void AnswerPrinter::end_reasoning() {
  if (!in_reasoning_) return;
  in_reasoning_ = false;
  write(terminal_.is_terminal(Stream::output) ? stdout : stderr, "\n\n");
}

void AnswerPrinter::finish() {
  end_reasoning();
  if (last_ != '\n') write(stdout, "\n");
}

std::string describe_speed(const engine::Usage& usage) {
  const double decode_ms = usage.duration_ms - usage.ttft_ms;
  const int after_first = usage.completion_tokens - 1;
  if (after_first < 1 || decode_ms <= 0) return fmt::format("{} tokens", usage.completion_tokens);
  return fmt::format("{} tokens, {:.1f} tokens/s, first after {:.2f} s", usage.completion_tokens,
                     after_first / decode_ms * 1000, usage.ttft_ms / 1000);
}

}  // namespace ridge::cli
