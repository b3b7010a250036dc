import Testing

@testable import Isolation

@Suite struct FrameTests {
    @Test func headerSurvivesEncoding() {
        let header = FrameHeader(.data, stream: 2, value: 0x0102_0304_0506_0708, length: 65536)
        let bytes = header.encoded()
        #expect(bytes.count == FrameHeader.size)
        #expect(bytes.withUnsafeBytes { FrameHeader(decoding: $0) } == header)
    }

    @Test func parserFindsTheSameFramesHoweverTheBytesAreCut() {
        var stream: [UInt8] = []
        stream += FrameHeader.frame(.data, stream: 1, value: 100, payload: Array(0..<200))
        stream += FrameHeader.frame(.end, stream: 1, value: 300)
        stream += FrameHeader.frame(.refused, value: 4, payload: Array("full".utf8))
        stream += FrameHeader.frame(.data, stream: 2, value: 0, payload: [9])
        for size in 1...stream.count {
            #expect(transcript(stream, cut: size) == ["data 1 100 200", "end 300", "refused full", "data 2 0 1"])
        }
    }

    /// The frames found when the stream comes in pieces of this size, data put together again.
    private func transcript(_ stream: [UInt8], cut size: Int) -> [String] {
        var parser = FrameParser()
        var lines: [String] = []
        var data: (stream: UInt8, from: UInt64, count: Int)?
        for start in Swift.stride(from: 0, to: stream.count, by: size) {
            stream[start..<min(start + size, stream.count)].withUnsafeBytes { bytes in
                parser.feed(bytes) { piece in
                    switch piece {
                    case .data(let header, let offset, let bytes):
                        data = (header.stream, data?.from ?? offset, (data?.count ?? 0) + bytes.count)
                        if data?.count == header.length, let whole = data {
                            lines.append("data \(whole.stream) \(whole.from) \(whole.count)")
                            data = nil
                        }
                    case .frame(let header, let payload):
                        let isEnd = header.kind == .end
                        lines.append(
                            isEnd ? "end \(header.value)" : "refused \(String(decoding: payload, as: UTF8.self))"
                        )
                    case .breach: lines.append("breach")
                    }
                    return true
                }
            }
        }
        return lines
    }

    @Test func parserStopsAtALengthThatNoFrameHas() {
        var parser = FrameParser()
        var breached = false
        FrameHeader(.end, length: 1 << 30).encoded().withUnsafeBytes { bytes in
            parser.feed(bytes) { piece in
                if case .breach = piece { breached = true }
                return true
            }
        }
        #expect(breached)
    }

    @Test func parserStopsWhenTheHandlerWantsNoMore() {
        var parser = FrameParser()
        var found = 0
        let stream = FrameHeader.frame(.end) + FrameHeader.frame(.end)
        stream.withUnsafeBytes { bytes in
            parser.feed(bytes) { _ in
                found += 1
                return false
            }
        }
        #expect(found == 1)
    }

    @Test func malformedAnswersAreBreaches() {
        for type in [FrameType.opened, .exited, .acknowledge] {
            #expect(SessionEvent(FrameHeader(type, length: 3), [1, 2, 3]) == .breach)
        }
        #expect(SessionEvent(FrameHeader(.end, stream: 7), []) == .breach)
        #expect(SessionEvent(FrameHeader(.list), []) == .breach)
    }

    @Test func readerNeverRunsPastTheEnd() {
        var reader = ByteReader([5, 0, 0, 0, 65])
        #expect(reader.string() == nil)
        var short = ByteReader([1, 2, 3])
        #expect(short.integer(UInt32.self) == nil)
        #expect(short.raw(-1) == nil)
    }

    @Test func startStatusIsReadOnlyWhenWhole() {
        var writer = ByteWriter()
        writer.raw(Array("SMIS".utf8))
        for value: UInt32 in [1, 6, 2, 0, 1021] { writer.integer(value) }
        let status = InitStatus(decoding: writer.bytes)
        #expect(status?.stage == .exec)
        #expect(status?.code == 2)
        #expect(status?.port == 1021)
        #expect(InitStatus(decoding: Array(writer.bytes.dropLast())) == nil)
        #expect(InitStatus(decoding: []) == nil)
    }

    @Test func queueGivesBytesBackInOrder() {
        let queue = ByteQueue(capacity: 16)
        var generator = FaultyRelay.Generator(state: 3)
        var next: UInt8 = 0
        var expected: UInt8 = 0
        for _ in 0..<2000 {
            let more = Int.random(in: 0..<40, using: &generator)
            queue.append((0..<more).map { next &+ UInt8($0) })
            next &+= UInt8(more)
            let take = Int.random(in: 0...queue.count, using: &generator)
            for byte in queue.bytes.prefix(take) {
                #expect(byte == expected)
                expected &+= 1
            }
            queue.removeFirst(take)
        }
    }
}
