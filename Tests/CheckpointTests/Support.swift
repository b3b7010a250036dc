import CLinux
import Glibc
import LinuxSystem

@testable import Isolation

/// A directory that goes away with its owner.
final class ScratchDirectory: Sendable {
    let path: String

    init(_ name: String = "checkpoint") throws {
        var template = Array("/var/tmp/smirun-\(name).XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SyscallError("mkdtemp") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        try? Directories.removeTree(path)
    }
}

/// Runs a shell command and returns its output; a failure is an error with the command's own words.
@discardableResult
func shell(_ script: String, in directory: String = "/", timeout: Duration = .seconds(120)) throws -> String {
    var command = HelperCommand(["/bin/sh", "-euc", script])
    command.directory = directory
    let result = try command.run(timeout: timeout)
    guard result.status == 0 else { throw ShellFailure(script: script, output: result.output + result.error) }
    return result.output
}

struct ShellFailure: Error {
    let script: String
    let output: String
}

/// Everything of a tree that must travel, one line an object: what a copy is compared by.
func fingerprint(_ directory: String) throws -> String {
    let list = try shell(
        """
        find . -mindepth 0 ! -type d -printf '%P %y %m %U %G %T@ %s %n %l\\n' | sort
        find . -type d -printf '%P %m %U %G %T@\\n' | sort
        find . -type f -print0 | sort -z | xargs -0 -r sha256sum
        """,
        in: directory
    )
    let names = try shell("find . -print0", in: directory).split(separator: "\0").map(String.init).sorted()
    return list + (try names.map { try "\($0) \(attributes(directory + "/" + $0))" }.joined(separator: "\n"))
}

/// Extended attributes of one object, by name.
func attributes(_ path: String) throws -> [String: [UInt8]] {
    var names = [CChar](repeating: 0, count: 65536)
    let length = try syscall("llistxattr", path) { smi_llist_xattr(path, &names, names.count) }
    var found: [String: [UInt8]] = [:]
    for name in names[..<length].split(separator: 0) {
        let name = String(decoding: name.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var value = [UInt8](repeating: 0, count: 65536)
        let count = try syscall("lgetxattr", path) { smi_lget_xattr(path, name, &value, value.count) }
        found[name] = Array(value[..<count])
    }
    return found
}

/// Sets an extended attribute.
func setAttribute(_ path: String, _ name: String, _ value: String) throws {
    let bytes = Array(value.utf8)
    try syscall("lsetxattr", path) { smi_lset_xattr(path, name, bytes, bytes.count) }
}

/// All chunks of a tree.
func chunks(of directory: String, rules: TreeRules = .upper) throws -> [[UInt8]] {
    let reader = try TreeReader(directory: directory, rules: rules)
    var all: [[UInt8]] = []
    while let chunk = try reader.nextChunk() { all.append(chunk) }
    return all
}

/// Writes a tree from chunks.
func write(_ chunks: [[UInt8]], to directory: String, rules: TreeRules = .upper) throws {
    let writer = try TreeWriter(directory: directory, rules: rules)
    for chunk in chunks { try writer.consume(chunk) }
    try writer.complete()
}

/// A generator with a seed, so that a failing tree can be made again.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed &* 2_862_933_555_777_941_757 &+ 3_037_000_493
    }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }
}
