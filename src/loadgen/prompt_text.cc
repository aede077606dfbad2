#include "loadgen/prompt_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "base/error.h"

namespace ridge::loadgen {
namespace {

// Short and common, so that most tokenizers have one token for each.
constexpr auto vocabulary = std::to_array<std::string_view>(
    {"able",    "air",    "all",      "animal",  "answer",  "area",    "arm",    "art",
     "back",    "ball",   "bank",     "base",    "bed",     "bird",    "black",  "blood",
     "blue",    "boat",   "body",     "book",    "box",     "boy",     "bread",  "bridge",
     "brother", "brown",  "bus",      "call",    "camp",    "car",     "card",   "care",
     "case",    "cat",    "cause",    "cell",    "chair",   "child",   "church", "circle",
     "city",    "class",  "clear",    "clock",   "cloud",   "coast",   "cold",   "color",
     "corn",    "cost",   "count",    "cover",   "cross",   "cup",     "dance",  "dark",
     "day",     "deep",   "desk",     "dog",     "door",    "dream",   "dress",  "drink",
     "drive",   "dry",    "ear",      "earth",   "east",    "edge",    "egg",    "end",
     "engine",  "eye",    "face",     "farm",    "fast",    "field",   "finger", "fire",
     "fish",    "floor",  "flower",   "food",    "foot",    "force",   "forest", "form",
     "friend",  "fruit",  "game",     "garden",  "gas",     "girl",    "glass",  "gold",
     "grass",   "green",  "ground",   "group",   "hair",    "half",    "hand",   "hat",
     "head",    "heart",  "heat",     "hill",    "history", "home",    "horse",  "hour",
     "house",   "ice",    "idea",     "island",  "job",     "key",     "king",   "lake",
     "land",    "law",    "leaf",     "leg",     "letter",  "level",   "life",   "light",
     "line",    "list",   "long",     "love",    "machine", "man",     "map",    "mark",
     "market",  "match",  "meat",     "metal",   "milk",    "mind",    "money",  "moon",
     "morning", "mother", "mountain", "mouth",   "music",   "name",    "neck",   "night",
     "north",   "nose",   "note",     "number",  "ocean",   "oil",     "open",   "order",
     "page",    "paint",  "paper",    "park",    "part",    "party",   "path",   "peace",
     "pen",     "people", "phone",    "picture", "place",   "plane",   "plant",  "plate",
     "play",    "point",  "pool",     "power",   "press",   "price",   "queen",  "question",
     "rain",    "red",    "rest",     "rice",    "ring",    "river",   "road",   "rock",
     "roof",    "room",   "root",     "rule",    "salt",    "sand",    "school", "sea",
     "season",  "seed",   "shape",    "ship",    "shirt",   "shoe",    "shop",   "side",
     "sign",    "silver", "sister",   "sky",     "sleep",   "small",   "snow",   "song",
     "sound",   "south",  "space",    "spring",  "square",  "stage",   "star",   "state",
     "step",    "stone",  "store",    "story",   "street",  "student", "sugar",  "summer",
     "sun",     "table",  "teacher",  "team",    "test",    "time",    "tool",   "town",
     "train",   "tree",   "truck",    "unit",    "valley",  "village", "voice",  "wall",
     "war",     "watch",  "water",    "wave",    "way",     "week",    "west",   "wheel",
     "white",   "wind",   "window",   "winter",  "woman",   "wood",    "word",   "work",
     "world",   "year",   "yellow",   "young"});

}  // namespace

PromptScale PromptScale::through(int words_a, int tokens_a, int words_b, int tokens_b) {
  RIDGE_ASSERT(words_a < words_b);
  if (tokens_b <= tokens_a) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the server counts {} tokens in a prompt of {} words, and {} in one of "
                            "{}: no length can be told from that",
                            tokens_a, words_a, tokens_b, words_b));
  }
  PromptScale scale;
  scale.tokens_per_word = static_cast<double>(tokens_b - tokens_a) / (words_b - words_a);
  scale.fixed_tokens = std::max(0.0, tokens_a - scale.tokens_per_word * words_a);
  return scale;
}

int PromptScale::words_for(int tokens) const {
  return std::max(1, static_cast<int>(std::lround((tokens - fixed_tokens) / tokens_per_word)));
}

std::string random_words(Random& random, int words) {
  std::string text;
  for (int i = 0; i < words; ++i) {
    if (i > 0) text += ' ';
    text +=
        vocabulary[static_cast<size_t>(random.between(0, static_cast<int>(vocabulary.size()) - 1))];
  }
  return text;
}

}  // namespace ridge::loadgen
