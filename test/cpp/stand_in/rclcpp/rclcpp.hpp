// As much of rclcpp as the example planner uses, where rclcpp is not installed: spinning hands one
// MaskArray to every subscription, with the mask "# . / . #" at (10, 20) and a damaged one.

#ifndef STAND_IN__RCLCPP_HPP_
#define STAND_IN__RCLCPP_HPP_

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "aopsam_ros/msg/mask_array.hpp"

#define RCLCPP_INFO(logger, ...) ((void)(logger), std::printf(__VA_ARGS__), std::puts(""))
#define RCLCPP_WARN(logger, ...) RCLCPP_INFO(logger, __VA_ARGS__)

namespace rclcpp
{

struct QoS
{
  explicit QoS(std::size_t) {}
};

template<typename Message>
struct Subscription
{
  using SharedPtr = std::shared_ptr<Subscription>;

  const char * get_topic_name() const {return topic.c_str();}

  std::string topic;
};

class Node
{
public:
  using Callback = std::function<void (const aopsam_ros::msg::MaskArray &)>;

  explicit Node(const std::string &) {}

  template<typename Message>
  typename Subscription<Message>::SharedPtr create_subscription(
    const std::string & topic, const QoS &, Callback callback)
  {
    callbacks.push_back(callback);
    auto subscription = std::make_shared<Subscription<Message>>();
    subscription->topic = topic;
    return subscription;
  }

  int get_logger() {return 0;}

  std::vector<Callback> callbacks;
};

inline void init(int, char **) {}
inline void shutdown() {}

inline void spin(const std::shared_ptr<Node> & node)
{
  aopsam_ros::msg::Mask mask;
  mask.id = 7;
  mask.roi.x_offset = 10;
  mask.roi.y_offset = 20;
  mask.roi.width = mask.roi.height = 2;
  mask.counts = {0, 1, 2, 1};
  aopsam_ros::msg::MaskArray array;
  array.height = array.width = 64;
  array.status = aopsam_ros::msg::MaskArray::STATUS_CUT;
  array.masks.push_back(mask);
  mask.id = 8;
  mask.counts = {5};
  array.masks.push_back(mask);
  for (const auto & callback : node->callbacks) {
    callback(array);
  }
}

}  // namespace rclcpp

#endif  // STAND_IN__RCLCPP_HPP_
