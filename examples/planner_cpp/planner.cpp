// A planner's side of /aopsam/masks in C++: the size and the centre of every object.
//
//   colcon build --base-paths src/aopsam_ros src/aopsam_ros/examples   # in a workspace
//   . install/setup.sh && ros2 run planner_cpp planner
//
// Masks of another node: --ros-args -r /aopsam/masks:=/front/aopsam/masks

#include <cstdint>
#include <memory>

#include "aopsam_ros/mask.hpp"
#include "aopsam_ros/msg/mask_array.hpp"
#include "rclcpp/rclcpp.hpp"

class Planner : public rclcpp::Node
{
public:
  Planner()
  : Node("planner")
  {
    subscription_ = create_subscription<aopsam_ros::msg::MaskArray>(
      "/aopsam/masks", rclcpp::QoS(1),
      [this](const aopsam_ros::msg::MaskArray & array) {on_masks(array);});
    RCLCPP_INFO(get_logger(), "listening on %s", subscription_->get_topic_name());
  }

private:
  void on_masks(const aopsam_ros::msg::MaskArray & array)
  {
    if (array.status != aopsam_ros::msg::MaskArray::STATUS_COMPLETE) {
      RCLCPP_WARN(get_logger(), "the time budget was spent: masks may be missing");
    }
    for (const auto & mask : array.masks) {
      std::uint64_t pixels = 0;
      double x = 0.0;
      double y = 0.0;
      try {
        // No image is allocated: a mask is a list of horizontal spans.
        aopsam_ros::for_each_span(
          mask, [&](std::uint32_t row, std::uint32_t begin, std::uint32_t end) {
            const auto length = end - begin;
            pixels += length;
            x += 0.5 * (begin + end - 1.0) * length;
            y += static_cast<double>(row) * length;
          });
      } catch (const aopsam_ros::MaskError & error) {
        RCLCPP_WARN(get_logger(), "mask %u skipped: %s", mask.id, error.what());
        continue;
      }
      if (pixels > 0) {
        RCLCPP_INFO(
          get_logger(), "object %u: %lu pixels around (%.0f, %.0f)", mask.id,
          static_cast<unsigned long>(pixels), x / pixels, y / pixels);
      }
    }
  }

  rclcpp::Subscription<aopsam_ros::msg::MaskArray>::SharedPtr subscription_;
};

int main(int argc, char ** argv)
{
  rclcpp::init(argc, argv);
  rclcpp::spin(std::make_shared<Planner>());
  rclcpp::shutdown();
  return 0;
}
