#include "backend/ascend/acl/kernel.h"

#include <fmt/format.h>

namespace ridge::backend::ascend::acl {

Binary::Binary(std::shared_ptr<Context> context, std::string path)
    : context_(std::move(context)), path_(std::move(path)) {
  context_->enter();
  const abi::Status status = context_->functions().aclrtBinaryLoadFromFile(
      path_.c_str(), /*options=*/nullptr, &handle_);
  if (status == abi::status::success) return;
  const Error error = context_->library().error_of(status, "aclrtBinaryLoadFromFile",
                                                   fmt::format("of kernels in {}", path_));
  // Whatever ACL calls it: it is the file that does not do.
  const bool is_other =
      error.code() != ErrorCode::internal && error.code() != ErrorCode::invalid_file;
  throw Error(is_other ? error.code() : ErrorCode::invalid_file, std::string(error.message()));
}

Binary::~Binary() {
  context_->enter_to_release();
  context_->library().check_and_log(context_->functions().aclrtBinaryUnLoad(handle_),
                                    "aclrtBinaryUnLoad");
}

Kernel::Kernel(std::shared_ptr<const Binary> binary, std::string name)
    : binary_(std::move(binary)), name_(std::move(name)) {
  const Context& context = *binary_->context_;
  context.enter();
  const abi::Status status =
      context.functions().aclrtBinaryGetFunction(binary_->handle_, name_.c_str(), &handle_);
  if (status == abi::status::success) return;
  const Error error =
      context.library().error_of(status, "aclrtBinaryGetFunction",
                                 fmt::format("of kernel {} in {}", name_, binary_->path_));
  const bool is_other = error.code() != ErrorCode::internal;
  throw Error(is_other ? error.code() : ErrorCode::not_found, std::string(error.message()));
}

void launch(Stream& stream, const Kernel& kernel, const KernelArguments& arguments,
            const LaunchShape& shape) {
  RIDGE_ASSERT(shape.blocks > 0);
  const Context& context = stream.context();
  const abi::Functions& functions = context.functions();
  const auto what = [&] { return fmt::format("of kernel {}", kernel.name()); };
  abi::LaunchAttribute together;
  together.value.schedule_mode = 1;
  abi::LaunchConfig starts_together{&together, 1};
  abi::LaunchConfig* config = shape.starts_together ? &starts_together : nullptr;
  // ACL takes pointers to what it only reads.
  std::vector<uint64_t> slots = arguments.slots();
  context.enter();
  if (functions.aclrtLaunchKernelWithHostArgs != nullptr) {
    context.library().check(
        functions.aclrtLaunchKernelWithHostArgs(
            kernel.handle(), shape.blocks, stream.handle(), config, slots.data(),
            slots.size() * sizeof(uint64_t), /*places=*/nullptr, /*place_count=*/0),
        "aclrtLaunchKernelWithHostArgs", what);
    return;
  }
  abi::ArgumentsHandle list = nullptr;
  context.library().check(functions.aclrtKernelArgsInit(kernel.handle(), &list),
                          "aclrtKernelArgsInit", what);
  for (uint64_t& slot : slots) {
    abi::ParameterHandle parameter = nullptr;
    context.library().check(
        functions.aclrtKernelArgsAppend(list, &slot, sizeof slot, &parameter),
        "aclrtKernelArgsAppend", what);
  }
  context.library().check(functions.aclrtKernelArgsFinalize(list), "aclrtKernelArgsFinalize", what);
  context.library().check(functions.aclrtLaunchKernelWithConfig(kernel.handle(), shape.blocks,
                                                                stream.handle(), config, list,
                                                                /*reserved=*/nullptr),
                          "aclrtLaunchKernelWithConfig", what);
}

}  // namespace ridge::backend::ascend::acl
