// Decoding of aopsam_ros/Mask messages. Header only; C++14.
//
// A mask is run-length encoded, row-major, inside its box `roi`: the first run is background, then
// mask and background alternate. Every function checks a message before it reads it, and throws
// `MaskError` if box, runs and image do not fit together: what comes over a network may be damaged.
//
// The functions are templates over the message, so that this header needs no other: they take
// `aopsam_ros::msg::Mask` and `aopsam_ros::msg::MaskArray`.

#ifndef AOPSAM_ROS__MASK_HPP_
#define AOPSAM_ROS__MASK_HPP_

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace aopsam_ros
{

// A message contradicts itself, or asks for more memory than any image needs.
class MaskError : public std::invalid_argument
{
public:
  using std::invalid_argument::invalid_argument;
};

// Boxes and images of more pixels are refused, as in the Python package.
constexpr std::uint64_t kMaxPixels = std::uint64_t{1} << 28;

// Throws MaskError unless the runs of `mask` fill its box exactly, whose ends are 32-bit numbers.
template<typename Mask>
void check(const Mask & mask)
{
  const std::uint64_t pixels = std::uint64_t{mask.roi.width} * mask.roi.height;
  if (pixels > kMaxPixels) {
    throw MaskError("a mask's box is too large");
  }
  const std::uint64_t right = std::uint64_t{mask.roi.x_offset} + mask.roi.width;
  const std::uint64_t bottom = std::uint64_t{mask.roi.y_offset} + mask.roi.height;
  if (right > UINT32_MAX || bottom > UINT32_MAX) {
    throw MaskError("a mask's box ends beyond any image");
  }
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < mask.counts.size(); ++i) {
    if (i > 0 && mask.counts[i] == 0) {
      throw MaskError("a mask has an empty run after the first");
    }
    total += mask.counts[i];
    if (total > pixels) {
      break;
    }
  }
  if (total != pixels) {
    throw MaskError("a mask's counts do not fill its box of " + std::to_string(pixels) + " pixels");
  }
}

// As check(mask); the box must also lie inside an image of that size.
template<typename Mask>
void check(const Mask & mask, std::uint32_t height, std::uint32_t width)
{
  if (std::uint64_t{height} * width > kMaxPixels) {
    throw MaskError("an image is too large");
  }
  const bool inside =
    std::uint64_t{mask.roi.x_offset} + mask.roi.width <= width &&
    std::uint64_t{mask.roi.y_offset} + mask.roi.height <= height;
  if (!inside) {
    throw MaskError("a mask's box is not inside the image");
  }
  check(mask);
}

// Calls visit(row, begin, end) for every horizontal piece of the mask, in rows from the top and from
// left to right: the pixels [begin, end) of that row of the image belong to it. Allocates nothing.
template<typename Mask, typename Visitor>
void for_each_span(const Mask & mask, Visitor visit)
{
  check(mask);
  const std::uint64_t width = mask.roi.width;
  std::uint64_t at = 0;
  for (std::size_t i = 0; i < mask.counts.size(); ++i) {
    const std::uint64_t end = at + mask.counts[i];
    while (i % 2 == 1 && at < end) {
      const std::uint64_t row = at / width;
      const std::uint64_t stop = end < (row + 1) * width ? end : (row + 1) * width;
      visit(
        static_cast<std::uint32_t>(mask.roi.y_offset + row),
        static_cast<std::uint32_t>(mask.roi.x_offset + at - row * width),
        static_cast<std::uint32_t>(mask.roi.x_offset + stop - row * width));
      at = stop;
    }
    at = end;
  }
}

// The pixels inside the mask's box, row-major, 1 where they belong to it, else 0.
template<typename Mask>
std::vector<std::uint8_t> decode(const Mask & mask)
{
  check(mask);
  std::vector<std::uint8_t> pixels;
  pixels.reserve(static_cast<std::size_t>(mask.roi.width) * mask.roi.height);
  for (std::size_t i = 0; i < mask.counts.size(); ++i) {
    pixels.insert(pixels.end(), mask.counts[i], static_cast<std::uint8_t>(i % 2));
  }
  return pixels;
}

// As decode(mask), but the whole image of height x width pixels.
template<typename Mask>
std::vector<std::uint8_t> decode_full(
  const Mask & mask, std::uint32_t height, std::uint32_t width)
{
  check(mask, height, width);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height) * width, 0);
  for_each_span(
    mask, [&](std::uint32_t row, std::uint32_t begin, std::uint32_t end) {
      for (std::uint32_t x = begin; x < end; ++x) {
        pixels[static_cast<std::size_t>(row) * width + x] = 1;
      }
    });
  return pixels;
}

// The id of the mask at every pixel of the image, row-major; 0 where there is none. Where masks
// overlap, the smaller one shows: a MaskArray is in descending order of area.
template<typename MaskArray>
std::vector<std::uint32_t> to_label_map(const MaskArray & array)
{
  if (std::uint64_t{array.height} * array.width > kMaxPixels) {
    throw MaskError("an image is too large");
  }
  std::vector<std::uint32_t> labels(static_cast<std::size_t>(array.height) * array.width, 0);
  for (const auto & mask : array.masks) {
    check(mask, array.height, array.width);
    for_each_span(
      mask, [&](std::uint32_t row, std::uint32_t begin, std::uint32_t end) {
        for (std::uint32_t x = begin; x < end; ++x) {
          labels[static_cast<std::size_t>(row) * array.width + x] = mask.id;
        }
      });
  }
  return labels;
}

}  // namespace aopsam_ros

#endif  // AOPSAM_ROS__MASK_HPP_
