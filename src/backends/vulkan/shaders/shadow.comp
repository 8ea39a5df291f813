#version 450
// A kernel that does nothing, for the synchronisation validation to look at: it judges what a
// dispatch binds and how, not what it computes. Bindings 0 to 19 are read only, those after them
// write only; vulkan_oracle.c says what is bound where.
layout(local_size_x = 1) in;

#define READ(index)                                                                               \
    layout(set = 0, binding = index, std430) readonly buffer Read##index { uint words[]; } read##index
#define WRITE(index)                                                                              \
    layout(set = 0, binding = index, std430) writeonly buffer Write##index { uint words[]; } write##index

READ(0);
READ(1);
READ(2);
READ(3);
READ(4);
READ(5);
READ(6);
READ(7);
READ(8);
READ(9);
READ(10);
READ(11);
READ(12);
READ(13);
READ(14);
READ(15);
READ(16);
READ(17);
READ(18);
READ(19);
WRITE(20);
WRITE(21);
WRITE(22);
WRITE(23);
WRITE(24);
WRITE(25);
WRITE(26);
WRITE(27);
WRITE(28);
WRITE(29);

void main() {
    uint sum = 0u;
    sum += read0.words[0];
    sum += read1.words[0];
    sum += read2.words[0];
    sum += read3.words[0];
    sum += read4.words[0];
    sum += read5.words[0];
    sum += read6.words[0];
    sum += read7.words[0];
    sum += read8.words[0];
    sum += read9.words[0];
    sum += read10.words[0];
    sum += read11.words[0];
    sum += read12.words[0];
    sum += read13.words[0];
    sum += read14.words[0];
    sum += read15.words[0];
    sum += read16.words[0];
    sum += read17.words[0];
    sum += read18.words[0];
    sum += read19.words[0];
    write20.words[0] = sum;
    write21.words[0] = sum;
    write22.words[0] = sum;
    write23.words[0] = sum;
    write24.words[0] = sum;
    write25.words[0] = sum;
    write26.words[0] = sum;
    write27.words[0] = sum;
    write28.words[0] = sum;
    write29.words[0] = sum;
}
