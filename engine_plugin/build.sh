#!/bin/sh
# Builds and tests the plugin: target/whyrank.zip. Needs Maven, and a JDK of version 21 or newer, and looks for both.
set -eu
cd "$(dirname "$0")"

version() { # of a JDK's folder; 0 where there is none
  "$1/bin/javac" -version 2>/dev/null | sed -n 's/^javac \([0-9]*\).*/\1/p' | grep . || echo 0
}

if ! command -v mvn >/dev/null; then
  echo "make plugin needs Maven (apt-get install maven, brew install maven), and there is none here." >&2
  echo "whyrank up needs none: it compiles the plugin for its own engine." >&2
  exit 1
fi
jdk=""
for folder in "${JAVA_HOME:-}" /usr/lib/jvm/* /Library/Java/JavaVirtualMachines/*/Contents/Home; do
  if [ -x "$folder/bin/javac" ] && [ "$(version "$folder")" -ge 21 ]; then
    jdk=$folder
    break
  fi
done
if [ -z "$jdk" ]; then
  echo "make plugin needs a JDK of version 21 or newer: set JAVA_HOME to one." >&2
  exit 1
fi
JAVA_HOME=$jdk mvn --batch-mode --quiet package
echo "engine_plugin/target/whyrank.zip"
