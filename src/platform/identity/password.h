#pragma once

#include <string>
#include <string_view>

namespace ridge::platform {

inline constexpr std::size_t least_password_bytes = 10, most_password_bytes = 1024;

// Argon2id (RFC 9106) with 19 MiB, two passes and one lane, and a random salt, in the form
// "$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH". Takes some 20 ms of one core. Throws invalid_argument
// for a password that is too short, too long or no UTF-8, and out_of_memory.
std::string hash_password(std::string_view password);

// Whether `hash` is of this password; false as well for what is no such hash. Takes the same time
// whichever the password is. Throws out_of_memory.
bool verify_password(const std::string& hash, std::string_view password);

}  // namespace ridge::platform
