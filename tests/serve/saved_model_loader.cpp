// Loads an exported version as TF Serving does, with tensorflow::LoadSavedModel and no Python, and replays requests.
//
//     saved_model_loader VERSION_DIR REQUESTS ANSWERS
//
// REQUESTS is a TFRecord file of tensorflow.serving.PredictionLog, like the warm-up requests. ANSWERS is written as a
// TFRecord file with one TensorProto per output, in the order of the requests and, for each request, of the outputs'
// names.

#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/lib/io/record_reader.h"
#include "tensorflow/core/lib/io/record_writer.h"
#include "tensorflow/core/platform/env.h"

namespace {

void check(const absl::Status& status) {
  if (!status.ok()) {
    std::cerr << status.ToString() << '\n';
    std::exit(1);
  }
}

// The submessages and strings of a protobuf message by field number, in order. TensorFlow's library lacks the messages
// of TF Serving; this parses their wire format.
class Fields {
 public:
  explicit Fields(const std::string& message) {
    size_t at = 0;
    auto varint = [&] {
      uint64_t value = 0;
      for (int shift = 0; at < message.size(); shift += 7) {
        const uint8_t byte = message[at++];
        value |= uint64_t{byte & 0x7fu} << shift;
        if (byte < 0x80) break;
      }
      return value;
    };
    while (at < message.size()) {
      const uint64_t key = varint();
      constexpr int kVarint = 0, kBytes = 2;
      if ((key & 7) == kBytes) {
        const uint64_t size = varint();
        fields_.emplace_back(key >> 3, message.substr(at, size));
        at += size;
      } else if ((key & 7) == kVarint) {
        varint();
      } else {
        std::cerr << "unexpected wire type\n";
        std::exit(1);
      }
    }
  }

  std::vector<std::string> all(uint64_t number) const {
    std::vector<std::string> found;
    for (const auto& [field, content] : fields_)
      if (field == number) found.push_back(content);
    return found;
  }

  std::string one(uint64_t number) const {
    const auto found = all(number);
    return found.empty() ? "" : found.back();
  }

 private:
  std::vector<std::pair<uint64_t, std::string>> fields_;
};

// Field numbers of tensorflow_serving/apis: prediction_log.proto, predict.proto, model.proto.
constexpr int kPredictLog = 6, kRequest = 1, kModelSpec = 1, kInputs = 2, kSignatureName = 3, kKey = 1, kValue = 2;

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: saved_model_loader VERSION_DIR REQUESTS ANSWERS\n";
    return 2;
  }
  tensorflow::SavedModelBundle bundle;
  check(tensorflow::LoadSavedModel({}, {}, argv[1], {"serve"}, &bundle));

  tensorflow::Env* env = tensorflow::Env::Default();
  std::unique_ptr<tensorflow::RandomAccessFile> requests;
  std::unique_ptr<tensorflow::WritableFile> answers;
  check(env->NewRandomAccessFile(argv[2], &requests));
  check(env->NewWritableFile(argv[3], &answers));
  tensorflow::io::RecordReader reader(requests.get());
  tensorflow::io::RecordWriter writer(answers.get());

  uint64_t offset = 0;
  tensorflow::tstring record;
  int replayed = 0;
  while (reader.ReadRecord(&offset, &record).ok()) {
    const Fields request(Fields(Fields(std::string(record)).one(kPredictLog)).one(kRequest));
    const std::string name = Fields(request.one(kModelSpec)).one(kSignatureName);
    const auto signature = bundle.GetSignatures().find(name);
    if (signature == bundle.GetSignatures().end()) {
      std::cerr << "no signature " << name << '\n';
      return 1;
    }
    std::vector<std::pair<std::string, tensorflow::Tensor>> inputs;
    for (const std::string& entry : request.all(kInputs)) {
      tensorflow::TensorProto proto;
      tensorflow::Tensor tensor;
      if (!proto.ParseFromString(Fields(entry).one(kValue)) || !tensor.FromProto(proto)) {
        std::cerr << "a tensor cannot be read\n";
        return 1;
      }
      inputs.emplace_back(signature->second.inputs().at(Fields(entry).one(kKey)).name(), tensor);
    }
    std::map<std::string, std::string> names;
    for (const auto& [output, info] : signature->second.outputs()) names[output] = info.name();
    std::vector<std::string> fetched;
    for (const auto& [output, tensor_name] : names) fetched.push_back(tensor_name);
    std::vector<tensorflow::Tensor> outputs;
    check(bundle.session->Run(inputs, fetched, {}, &outputs));
    for (const tensorflow::Tensor& output : outputs) {
      tensorflow::TensorProto proto;
      output.AsProtoTensorContent(&proto);
      check(writer.WriteRecord(proto.SerializeAsString()));
    }
    ++replayed;
  }
  check(writer.Close());
  check(answers->Close());
  std::cout << "replayed " << replayed << '\n';
  return 0;
}
