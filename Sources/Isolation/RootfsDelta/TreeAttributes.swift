import CLinux
import Glibc
import LinuxSystem

/// Extended attributes of one object, by a path below `/proc/self/fd`.
enum TreeAttributes {
    /// The attributes that travel, by name.
    static func read(_ place: [CChar], rules: TreeRules) throws -> [TreeEntry.Attribute] {
        // Few files have any: one call with a small buffer answers for most.
        var names = [CChar](repeating: 0, count: 1024)
        var length = smi_llist_xattr(place, &names, names.count)
        if length < 0 && errno == ERANGE {
            names = [CChar](repeating: 0, count: 65536)
            length = smi_llist_xattr(place, &names, names.count)
        }
        if length < 0 {
            let code = errno
            if code == ENOTSUP { return [] }
            throw SyscallError("llistxattr", code: code)
        }
        let all = names[..<length].split(separator: 0).map { $0.map { UInt8(bitPattern: $0) } }
        return try all.filter { rules.carries(attribute: $0) }
            .sorted { $0.lexicographicallyPrecedes($1) }
            .map { TreeEntry.Attribute(name: $0, value: try value(of: $0, at: place)) }
    }

    private static func value(of name: [UInt8], at place: [CChar]) throws -> [UInt8] {
        var value = [UInt8](repeating: 0, count: 65536)
        let cName = name.map { CChar(bitPattern: $0) } + [0]
        let count = try syscall("lgetxattr") { smi_lget_xattr(place, cName, &value, value.count) }
        return Array(value[..<count])
    }

    static func write(_ attribute: TreeEntry.Attribute, at place: [CChar]) throws(SyscallError) {
        let name = attribute.name.map { CChar(bitPattern: $0) } + [0]
        try syscall("lsetxattr", String(decoding: attribute.name, as: UTF8.self)) {
            smi_lset_xattr(place, name, attribute.value, attribute.value.count)
        }
    }

    static func write(_ attribute: TreeEntry.Attribute, to descriptor: Descriptor) throws(SyscallError) {
        let name = attribute.name.map { CChar(bitPattern: $0) } + [0]
        try syscall("fsetxattr", String(decoding: attribute.name, as: UTF8.self)) {
            smi_fset_xattr(descriptor.raw, name, attribute.value, attribute.value.count)
        }
    }
}
