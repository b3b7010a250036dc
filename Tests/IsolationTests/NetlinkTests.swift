import Glibc
import LinuxSystem
import Testing

@testable import Isolation

@Suite struct NetlinkTests {
    @Test func `a message has its length, type, flags and padded attributes`() {
        var message = NetlinkMessage(type: 16, flags: 0x400, fixed: [1, 2, 3, 4])
        message.attribute(3, string: "ab")
        let bytes = message.encoded(sequence: 7)
        #expect(bytes.count == 16 + 4 + 8)
        #expect(Bytes.integer(bytes, at: 0, UInt32.self) == 28)
        #expect(Bytes.integer(bytes, at: 4, UInt16.self) == 16)
        #expect(Bytes.integer(bytes, at: 6, UInt16.self) == 0x401)
        #expect(Bytes.integer(bytes, at: 8, UInt32.self) == 7)
        #expect(Array(bytes[20...]) == [7, 0, 3, 0, 97, 98, 0, 0])
    }

    @Test func `nested attributes carry the flag and their own length`() {
        var message = NetlinkMessage(type: 1, flags: 0, fixed: [])
        message.nest(2) { $0.attribute(1, UInt8(9)) }
        #expect(message.body == [12, 0, 2, 0x80, 5, 0, 1, 0, 9, 0, 0, 0])
    }

    @Test func `replies are split and a truncated one is dropped`() {
        var message = NetlinkMessage(type: 16, flags: 0, fixed: [UInt8](repeating: 0, count: 16))
        message.attribute(3, string: "smi7")
        message.attribute(20, string: "smirun:alice")
        message.attribute(27, UInt32(5))
        let one = message.encoded(sequence: 1)
        let replies = NetlinkReply.parse(one + one + one.dropLast(4))
        #expect(replies.count == 2)
        let link = replies.first.flatMap(LinkDescription.init)
        #expect(link?.name == "smi7")
        #expect(link?.alias == "smirun:alice")
        #expect(link?.group == 5)
        #expect(replies.first?.acknowledgement == nil)
    }

    @Test func `errors are read from acknowledgements`() {
        let error =
            Bytes.of(UInt32(20)) + Bytes.of(UInt16(2)) + Bytes.of(UInt16(0)) + Bytes.of(UInt32(3))
            + Bytes.of(UInt32(0)) + Bytes.of(Int32(-17))
        #expect(NetlinkReply.parse(error).first?.acknowledgement == EEXIST)
        #expect(NetlinkReply.parse(error).first?.sequence == 3)
    }

    @Test func `arbitrary bytes never trap the parser`() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            let bytes = (0..<Int.random(in: 0..<200, using: &generator)).map { _ in UInt8.random(in: 0...255) }
            for reply in NetlinkReply.parse(bytes) { _ = reply.attributes(after: 16) }
        }
    }

    @Test func `an interface's name fills sixteen bytes`() {
        #expect(PacketFilterBatch.key(interface: "smi7") == Array("smi7".utf8) + [UInt8](repeating: 0, count: 12))
        #expect(PacketFilterBatch.key(interface: String(repeating: "x", count: 30)).count == 16)
    }

    @Test func `addresses are parsed and printed`() throws {
        let v4 = try #require(IPAddress("10.88.0.7"))
        #expect(v4.bytes == [10, 88, 0, 7] && !v4.isIPv6 && v4.description == "10.88.0.7")
        let v6 = try #require(IPAddress("fd53:4d49::7"))
        #expect(v6.isIPv6 && v6.hostPrefix == 128 && v6.description == "fd53:4d49::7")
        #expect(IPAddress("10.88.0") == nil && IPAddress("") == nil && IPAddress("smi") == nil)
    }

    @Test func `an index gives addresses, link and hardware address`() {
        let address = SandboxAddress(index: 60001)
        #expect(address.ipv4 == "10.88.234.97")
        #expect(address.ipv6 == "fd53:4d49::ea61")
        #expect(address.hostLink == "smi60001")
        #expect(address.mac == [2, 0x53, 0x4d, 0x49, 234, 97])
    }
}
