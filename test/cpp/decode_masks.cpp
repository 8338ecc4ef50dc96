// Decodes masks given on standard input, for test_mask_hpp.py.
//
// A line is: id x y width height image_height image_width count...
// The answer is one line: the box's pixels, the whole image's, its labels; or "error: reason". With an
// image of 0 x 0 pixels: the box's pixels, then the rows and the columns of those in a span.

#include <cstdint>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "aopsam_ros/mask.hpp"

#ifdef GENERATED_MESSAGES
#include "aopsam_ros/msg/mask_array.hpp"
using aopsam_ros::msg::Mask;
using aopsam_ros::msg::MaskArray;
#else
struct Mask
{
  std::uint32_t id;
  struct
  {
    std::uint32_t x_offset, y_offset, height, width;
  } roi;
  std::vector<std::uint32_t> counts;
};
struct MaskArray
{
  std::uint32_t height, width;
  std::vector<Mask> masks;
};
#endif

template<typename T>
void print(const std::vector<T> & pixels)
{
  for (const auto pixel : pixels) {
    std::cout << static_cast<std::uint64_t>(pixel) << ',';
  }
  std::cout << ' ';
}

int main()
{
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    Mask mask;
    std::uint32_t height = 0, width = 0, count = 0;
    words >> mask.id >> mask.roi.x_offset >> mask.roi.y_offset >> mask.roi.width >>
    mask.roi.height >> height >> width;
    while (words >> count) {
      mask.counts.push_back(count);
    }
    try {
      const auto crop = aopsam_ros::decode(mask);
      if (height == 0 && width == 0) {
        std::vector<std::uint32_t> rows, columns;
        aopsam_ros::for_each_span(
          mask, [&](std::uint32_t row, std::uint32_t begin, std::uint32_t end) {
            for (std::uint32_t x = begin; x < end; ++x) {
              rows.push_back(row);
              columns.push_back(x);
            }
          });
        print(crop);
        print(rows);
        print(columns);
        std::cout << '\n';
        continue;
      }
      const auto full = aopsam_ros::decode_full(mask, height, width);
      MaskArray array;
      array.height = height;
      array.width = width;
      array.masks.push_back(mask);
      const auto labels = aopsam_ros::to_label_map(array);
      print(crop);
      print(full);
      print(labels);
      std::cout << '\n';
    } catch (const aopsam_ros::MaskError & error) {
      std::cout << "error: " << error.what() << '\n';
    }
  }
  return 0;
}
