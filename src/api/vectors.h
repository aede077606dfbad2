#pragma once

#include <span>
#include <string>

namespace ridge::api {

// Scales a vector to a length of 1; one of zeros stays as it is.
void normalize(std::span<float> vector);

// The cosine of the angle between two vectors of one width, -1 to 1; 0 where one is all zeros.
double cosine(std::span<const float> a, std::span<const float> b);

// Appends the base64 text (RFC 4648, with padding) of the values as little-endian float32.
void append_base64(std::string& out, std::span<const float> values);

}  // namespace ridge::api
