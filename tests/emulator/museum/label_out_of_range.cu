// memcheck: weight: past the end of 4 elements
// The void label, 255, is used as an index into the class weights.
// launch: grid=(1) block=(64)  in: labels weight  out: y
// sample: labels=(64)%256 weight=(4) y=(64)
__global__ void broken(const unsigned char* labels, const float* weight, float* y) {
    y[threadIdx.x] = weight[labels[threadIdx.x]];  // <- here
}

// launch: grid=(1) block=(64)  in: labels weight  out: y
// sample: labels=(64)%256 weight=(4) y=(64)
__global__ void fixed(const unsigned char* labels, const float* weight, float* y) {
    int label = labels[threadIdx.x];
    y[threadIdx.x] = label < 4 ? weight[label] : 0;
}
